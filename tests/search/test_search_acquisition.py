"""Expected improvement against numerical integration, and where it is not a number one may see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from dnc_search.acquisition import expected_improvement, log_expected_improvement


@pytest.mark.parametrize("margin", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("best", [-1.0, 0.2])
def test_expected_improvement_is_the_integral(best: float, margin: float) -> None:
    means, sds = np.meshgrid(np.linspace(-2, 2, 9), [1e-3, 0.1, 1.0, 5.0])
    for mean, sd in zip(means.flat, sds.flat, strict=True):
        threshold = best - margin
        # the density is all within 40 sd; the integrand has a kink at the threshold
        low, high = mean - 40 * sd, min(threshold, mean + 40 * sd)
        expected = 0.0
        if low < high:
            inside = [point for point in (mean - 5 * sd, mean, mean + 5 * sd) if low < point < high]
            expected, _ = quad(
                lambda loss, mean=mean, sd=sd, threshold=threshold: (
                    (threshold - loss) * norm.pdf(loss, mean, sd)
                ),
                low,
                high,
                points=inside or None,
                epsabs=0,
                limit=200,
            )
        actual = expected_improvement([mean], [sd], best, margin)
        np.testing.assert_allclose(actual, [expected], rtol=1e-7, atol=1e-300)


@pytest.mark.parametrize(
    "z", [3.0, 0.0, -0.999, -1.001, -10.0, -40.0, -400.0, -999.0, -1001.0, -1e6]
)
def test_logarithm_where_the_improvement_is_too_small_for_a_float(z: float) -> None:
    # h(z) / phi(z) is the integral of t * exp(z * t - t^2 / 2) over t > 0, here in units of 1 / |z|
    unit = max(abs(z), 1.0)
    ratio, _ = quad(lambda t: t * math.exp(z / unit * t - (t / unit) ** 2 / 2), 0, 60, epsabs=0)
    sd = 0.5
    expected = math.log(ratio / unit**2) + norm.logpdf(z) + math.log(sd)
    actual = log_expected_improvement([0.0], [sd], best=sd * z, margin=0.0)
    np.testing.assert_allclose(actual - norm.logpdf(z), [expected - norm.logpdf(z)], rtol=1e-8)


def test_without_uncertainty_it_is_the_gain() -> None:
    mean, sd = [-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]
    np.testing.assert_allclose(expected_improvement(mean, sd, 0.0, 0.0), [1.0, 0.0, 0.0])
    assert log_expected_improvement(mean, sd, 0.0, 0.0)[1] == -math.inf
    # as good as certain: the ratio of the two would overflow
    np.testing.assert_allclose(expected_improvement([-1.0], [5e-324], 0.0, 0.0), [1.0])
    np.testing.assert_allclose(expected_improvement([1.0], [5e-324], 0.0, 0.0), [0.0])


def test_more_uncertainty_and_lower_means_promise_more() -> None:
    by_sd = log_expected_improvement(np.ones(50), np.geomspace(1e-3, 10, 50), 0.0)
    by_mean = log_expected_improvement(np.linspace(50, -5, 50), np.ones(50), 0.0)
    assert (np.diff(by_sd) > 0).all()
    assert (np.diff(by_mean) > 0).all()


def test_a_negative_deviation_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^a standard deviation must be 0 or more, got -0\.5$"):
        expected_improvement([0.0, 0.0], [1.0, -0.5], 0.0)
    with pytest.raises(ValueError, match=r"^a standard deviation must be 0 or more, got nan$"):
        expected_improvement([0.0], [math.nan], 0.0)

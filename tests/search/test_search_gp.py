"""The Gaussian process against the textbook's formulas and against functions drawn from it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import multivariate_normal

from dnc_search.gp import Prior, _Evidence, condition, fit
from dnc_search.kernel import Array, Component, gram, same_limits, shares
from dnc_search.parameters import Config


def widths(config: Config) -> list[float]:
    return [float(config[f"width_{i}"]) for i in range(int(config["layers"]))]


WIDTHS = Component("widths", widths, same_limits(16, 512), lambda layer: 0.5)
DEPTH = Component("depth", lambda config: [float(config["layers"])], same_limits(0, 4))
PRIOR = Prior((WIDTHS, DEPTH))


def random_nets(count: int, seed: int) -> list[Config]:
    rng = np.random.default_rng(seed)
    nets = []
    for _ in range(count):
        layers = int(rng.integers(0, 5))
        net: dict[str, int] = {"layers": layers}
        nets.append(net | {f"width_{i}": int(rng.integers(16, 513)) for i in range(layers)})
    return nets


def draw(prior: Prior, nets: list[Config], seed: int) -> tuple[Array, Array]:
    """Return a function drawn from a prior, without and with the noise of observation."""
    rng = np.random.default_rng(seed)
    covariance = prior.amplitude * gram(prior.components, nets, nets)
    values, vectors = np.linalg.eigh(covariance)
    losses = vectors @ (np.sqrt(np.maximum(values, 0)) * rng.normal(size=len(nets)))
    return losses, losses + math.sqrt(prior.noise) * rng.normal(size=len(nets))


@pytest.mark.parametrize("standardise", [False, True])
def test_posterior_is_the_textbooks(standardise: bool) -> None:
    prior = Prior((WIDTHS, DEPTH), amplitude=2.0, noise=0.01, standardise=standardise)
    seen, asked = random_nets(20, 0), random_nets(30, 1)
    losses = 5 + 3 * np.random.default_rng(2).normal(size=20)
    scale = losses.std() if standardise else 1.0
    covariance, cross, own = (
        2 * gram(prior.components, a, b) for a, b in ((seen, seen), (asked, seen), (asked, asked))
    )
    inverse = np.linalg.inv(covariance + 0.01 * np.eye(20))
    expected_mean = losses.mean() + cross @ inverse @ (losses - losses.mean())
    expected_sd = scale * np.sqrt(np.diag(own - cross @ inverse @ cross.T))
    process = condition(prior, seen, losses)
    mean, sd = process.predict(asked)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-9)
    np.testing.assert_allclose(sd, expected_sd, rtol=1e-9)
    density = multivariate_normal(cov=covariance + 0.01 * np.eye(20))
    expected = density.logpdf((losses - losses.mean()) / scale)
    assert process.log_marginal_likelihood() == pytest.approx(expected)


def test_units_of_the_losses_do_not_matter_when_standardised() -> None:
    seen, asked = random_nets(15, 0), random_nets(15, 1)
    losses = np.random.default_rng(2).normal(size=15)
    mean, sd = condition(PRIOR, seen, losses).predict(asked)
    other_mean, other_sd = condition(PRIOR, seen, 100 * losses + 7).predict(asked)
    np.testing.assert_allclose(other_mean, 100 * mean + 7)
    np.testing.assert_allclose(other_sd, 100 * sd)


def test_variance_is_never_negative() -> None:
    prior = replace(PRIOR, noise=1e-12)
    # the same net many times makes the matrix singular but for the noise
    seen = [{"layers": 1, "width_0": width} for width in (16, 50, 100, 200, 400)] * 8
    mean, sd = condition(prior, seen, np.tile(np.arange(5.0), 8)).predict(seen)
    np.testing.assert_allclose(mean, np.tile(np.arange(5.0), 8), atol=1e-4)
    assert (sd >= 0).all()
    assert sd.max() < 1e-4


def test_a_kernel_that_is_not_quite_positive_definite_is_mended() -> None:
    # nets of different depths, a small omega and r = 1
    component = replace(WIDTHS, omega=0.3, exponent=lambda layer: 1.0)
    prior = replace(PRIOR, components=(component,))
    seen = random_nets(150, 0)
    assert np.linalg.eigvalsh(gram(prior.components, seen, seen)).min() < -prior.noise
    mean, sd = condition(prior, seen, np.random.default_rng(0).normal(size=150)).predict(seen)
    assert np.isfinite([mean, sd]).all()


def test_equal_losses_are_no_division_by_zero() -> None:
    mean, _ = condition(PRIOR, random_nets(3, 0), [2.0, 2.0, 2.0]).predict(random_nets(5, 1))
    np.testing.assert_array_equal(mean, 2.0)


def test_intervals_cover_functions_drawn_from_the_prior() -> None:
    prior = replace(PRIOR, noise=0.01, standardise=False)
    nets = random_nets(80, 0)
    inside = []
    for seed in range(100):
        truth, losses = draw(prior, nets, seed)
        mean, sd = condition(prior, nets[:40], losses[:40]).predict(nets[40:])
        inside.append(np.abs(truth[40:] - mean) < 1.96 * sd)
    # the mean of the losses stands for the true one, which costs a little
    assert 0.92 < np.mean(inside) < 0.97


def test_believing_moves_no_mean_and_takes_the_uncertainty() -> None:
    seen, pending, asked = random_nets(10, 0), random_nets(3, 1), random_nets(20, 2)
    process = condition(PRIOR, seen, np.random.default_rng(3).normal(size=10))
    believed = process.believe(pending)
    mean, sd = process.predict(asked)
    believed_mean, believed_sd = believed.predict(asked)
    np.testing.assert_allclose(believed_mean, mean, atol=1e-9)
    assert (believed_sd <= sd + 1e-12).all()
    assert believed.predict(pending)[1].max() < 0.02
    assert process.believe([]) is process


@pytest.mark.parametrize("separate", [False, True])
def test_gradient_of_the_evidence(separate: bool) -> None:
    losses = draw(PRIOR, random_nets(25, 0), 1)[1]
    evidence = _Evidence(PRIOR, random_nets(25, 0), losses, separate)
    for theta in np.random.default_rng(0).uniform(0.0, 1.0, (3, len(evidence.spread))):
        error = check_grad(lambda t: evidence(t)[0], lambda t: evidence(t)[1], theta)
        assert error < 1e-4 * np.linalg.norm(evidence(theta)[1])


@pytest.mark.parametrize("separate", [False, True])
def test_fit_raises_the_marginal_likelihood(separate: bool) -> None:
    for seed in range(5):
        nets = random_nets(40, seed)
        losses = np.array([math.log(0.1 + sum(widths(net)) / 2000) for net in nets])
        fitted = fit(PRIOR, nets, losses, separate=separate, seed=seed)
        before, after = (condition(p, nets, losses) for p in (PRIOR, fitted))
        assert after.log_marginal_likelihood() > before.log_marginal_likelihood() + 1


def test_fit_finds_what_the_losses_were_drawn_from() -> None:
    nets = random_nets(120, 0)
    found: dict[float, list[float]] = {1.5: [], 6.0: []}
    for omega, omegas in found.items():
        truth = Prior(
            (replace(WIDTHS, omega=omega, weight=0.9), replace(DEPTH, weight=0.1)),
            noise=0.01,
            standardise=False,
        )
        for seed in range(3):
            given = replace(PRIOR, standardise=False)
            fitted = fit(given, nets, draw(truth, nets, seed)[1])
            omegas.append(fitted.components[0].omega)
            assert shares(fitted.components)[0] > 0.5
            assert 0.002 < fitted.noise < 0.05
            assert fitted.amplitude == pytest.approx(sum(c.weight for c in fitted.components))
    assert max(found[1.5]) < 3.0 < min(found[6.0])


def test_fit_keeps_the_ratio_of_omegas_unless_separate() -> None:
    prior = replace(PRIOR, components=(WIDTHS, replace(DEPTH, omega=6.0)))
    nets = random_nets(20, 0)
    losses = draw(PRIOR, nets, 0)[1]
    one, other = fit(prior, nets, losses, separate=False).components
    assert other.omega == pytest.approx(2 * one.omega)
    assert one.omega != WIDTHS.omega
    one, other = fit(prior, nets, losses, separate=True).components
    assert other.omega != pytest.approx(2 * one.omega)


def test_fit_is_repeatable_and_gives_no_weight_where_there_was_none() -> None:
    prior = replace(PRIOR, components=(WIDTHS, replace(DEPTH, weight=0.0)))
    nets = random_nets(20, 0)
    losses = draw(PRIOR, nets, 0)[1]
    fitted = fit(prior, nets, losses, seed=3)
    assert fitted == fit(prior, nets, losses, seed=3)
    assert fitted != prior
    assert fitted.components[1].weight == 0


@pytest.mark.parametrize(("name", "value"), [("amplitude", 0.0), ("noise", -1.0)])
def test_bad_variances(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^the {name} must be a variance above 0, got {value}$"):
        replace(PRIOR, **{name: value})


def test_bad_losses() -> None:
    nets = random_nets(2, 0)
    message = r"^the loss of configuration 1 is inf; give a candidate that failed a finite one$"
    with pytest.raises(ValueError, match=message):
        condition(PRIOR, nets, [0.0, math.inf])
    for configs, losses in ((nets, [1.0]), ([], [])):
        message = (
            r"^a Gaussian process needs one loss per configuration and at least one, "
            rf"got {len(configs)} configurations and {len(losses)} losses$"
        )
        with pytest.raises(ValueError, match=message):
            condition(PRIOR, configs, losses)

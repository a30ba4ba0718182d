"""Mean and interval of a few runs."""

from __future__ import annotations

import pytest

from dnc_sparse.stats import difference_interval, mean_interval


def test_interval_is_students() -> None:
    mean, half_width = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    # t(0.975, 2) = 4.30265, standard error 1 / sqrt(3)
    assert half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


def test_one_value_has_no_interval() -> None:
    assert mean_interval([0.5]) == (0.5, None)


def test_no_values() -> None:
    with pytest.raises(ValueError, match=r"^a mean needs at least one value, got none$"):
        mean_interval([])


def test_difference_interval_is_welchs() -> None:
    # errors 1/3 and 4/3, freedom (5/3)^2 / ((1/9 + 16/9) / 2) = 2.941, whose quantile is 3.2188
    difference, half_width = difference_interval([1.0, 2.0, 3.0], [3.0, 5.0, 7.0])
    assert difference == -3.0
    assert half_width == pytest.approx(3.2187 * (5 / 3) ** 0.5, rel=1e-3)


def test_differences_without_spread_or_with_one_value() -> None:
    assert difference_interval([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.0)
    assert difference_interval([1.0], [0.5, 0.7]) == (pytest.approx(0.4), None)
    with pytest.raises(ValueError, match=r"^a difference needs values on both sides, got 0 and 1$"):
        difference_interval([], [1.0])

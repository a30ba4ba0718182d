"""Mean and interval of a few runs."""

from __future__ import annotations

import pytest

from dnc_sparse.stats import mean_interval


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

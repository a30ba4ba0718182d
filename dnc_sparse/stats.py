"""Mean and confidence interval of a few runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float | None]:
    """Return the mean and the half-width of its Student t interval, None for a single value.

    Raises ValueError for no values.
    """
    if not values:
        raise ValueError("a mean needs at least one value, got none")
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, None
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean, float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error


def difference_interval(
    left: Sequence[float], right: Sequence[float], level: float = 0.95
) -> tuple[float, float | None]:
    """Return mean(left) - mean(right) and the half-width of Welch's interval, which lets the
    variances differ; None where a side has a single value. Raises ValueError for no values.
    """
    if not (left and right):
        raise ValueError(
            f"a difference needs values on both sides, got {len(left)} and {len(right)}"
        )
    difference = float(np.mean(left)) - float(np.mean(right))
    if min(len(left), len(right)) == 1:
        return difference, None
    errors = [(float(np.var(side, ddof=1)) / len(side), len(side) - 1) for side in (left, right)]
    total = sum(error for error, _ in errors)
    if total == 0:
        return difference, 0.0
    freedom = total**2 / sum(error**2 / degrees for error, degrees in errors)
    return difference, float(stats.t.ppf((1 + level) / 2, freedom)) * total**0.5

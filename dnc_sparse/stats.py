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

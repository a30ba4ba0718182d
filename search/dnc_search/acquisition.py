"""How much a candidate promises: expected improvement, for losses to be made small.

| name   | meaning                                                       | shape |
|--------|---------------------------------------------------------------|-------|
| mean   | posterior mean of the loss                                    | [n]   |
| sd     | posterior standard deviation of the loss, 0 or more           | [n]   |
| best   | the lowest loss seen                                          | 0-d   |
| margin | what a loss must be lower by to count as an improvement, xi   | 0-d   |
| gain   | best - mean - margin                                          | [n]   |
| z      | gain / sd                                                     | [n]   |
| phi    | density of the standard normal distribution, Phi its integral |       |

Expected improvement is gain * Phi(z) + sd * phi(z) = sd * h(z), with h(z) = phi(z) + z * Phi(z)
(D. R. Jones, M. Schonlau, W. J. Welch, 1998). Its logarithm still ranks candidates whose
improvement is too small for a float (S. Ament et al., NeurIPS 2023, arXiv 2310.20708).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfcx, ndtr

from dnc_search.kernel import Array

_LOG_ROOT_2PI = 0.5 * float(np.log(2 * np.pi))
# below it h(z) / phi(z) is its series, good to 16 digits; above it no more than 6 digits cancel
_FAR = -1e3
# beyond it a candidate is certain
_MAX_Z = 1e100


def expected_improvement(
    mean: ArrayLike, sd: ArrayLike, best: float, margin: float = 1e-4
) -> Array:
    """Return by how much each candidate is expected to beat the best, in units of the loss: [n].

    Without uncertainty it is the gain, or 0 for a loss. Raises ValueError for a negative sd.
    """
    return np.asarray(np.exp(log_expected_improvement(mean, sd, best, margin)))


def log_expected_improvement(
    mean: ArrayLike, sd: ArrayLike, best: float, margin: float = 1e-4
) -> Array:
    """Return the natural logarithm of the expected improvement: [n]; -inf where it is 0.

    Raises ValueError for a negative sd.
    """
    gain = np.atleast_1d(best - np.asarray(mean, dtype=np.float64) - margin)
    sd = np.broadcast_to(np.asarray(sd, dtype=np.float64), gain.shape)
    if not (sd >= 0).all():
        raise ValueError(f"a standard deviation must be 0 or more, got {sd.min()}")
    uncertain = (sd > 0) & (sd > np.abs(gain) / _MAX_Z)
    with np.errstate(divide="ignore"):
        log = np.log(np.maximum(gain, 0.0))
    log[uncertain] = np.log(sd[uncertain]) + _log_h(gain[uncertain] / sd[uncertain])
    return log


def _log_h(z: Array) -> Array:
    """Return log(phi(z) + z * Phi(z)) without underflow or cancellation."""
    log = np.empty_like(z)
    near, far = z > -1, z < _FAR
    middle = ~near & ~far
    log[near] = np.log(np.exp(_log_phi(z[near])) + z[near] * ndtr(z[near]))
    # h / phi = 1 + z * Phi / phi; far out 1/z^2 - 3/z^4 + 15/z^6 ...
    mills = np.sqrt(np.pi / 2) * erfcx(-z[middle] / np.sqrt(2))
    log[middle] = _log_phi(z[middle]) + np.log1p(z[middle] * mills)
    square = z[far] ** 2
    log[far] = _log_phi(z[far]) - np.log(square) + np.log1p((15 / square - 3) / square)
    return log


def _log_phi(z: Array) -> Array:
    return -0.5 * z**2 - _LOG_ROOT_2PI

"""What the Gaussian process compares: one component per quantity, one number per layer.

| name    | meaning                                                          | shape              |
|---------|------------------------------------------------------------------|--------------------|
| x       | the values of a component in a configuration, one per layer      | [layers]           |
| l, u    | the limits of a layer's values                                   | 0-d                |
| r       | exponent: small where a layer's first differences matter most    | 0-d                |
| omega   | the distance of l from u, and from a layer that only one has     | 0-d                |
| d       | ramp distance: omega * (abs(x_a - x_b) / (u - l))^r              | 0-d                |
| k       | component kernel: mean of exp(-d^2 / 2) over the deeper's layers | [n_a, n_b]         |
| s       | share of a component in the whole kernel; shares add up to 1     | 0-d                |
| squares | (d / omega)^2 in each layer                                      | [layers, n_a, n_b] |

Distances, component kernels and their convex combination are those of Deep-n-Cheap (S. Dey,
S. C. Kanala, K. M. Chugg, P. A. Beerel, ACML 2020, arXiv 2004.00974). With 0 < r <= 1 each layer's
kernel is positive definite (I. J. Schoenberg, 1938). The mean over layers of nets of different
depths is so too for r <= 1/2 and values within the limits, since k then falls to that of a missing
layer along a convex curve (G. Polya, 1949); for larger r at the omegas in use, as far as was tried:
not at 1 and below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnc_search.parameters import Config

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Component:
    """A quantity of a configuration: `values` gives a number per layer, one for a scalar.

    `limits` gives the range (l, u) and `exponent` the r of layer i, counted from 0; `weight` is
    its share s before the shares are made to add up to 1, `omega` the distance at which two
    values are as far apart as can be. Values outside the limits count as the nearest limit;
    without `clip` they count as what they are, and may be farther than omega from each other.
    Raises ValueError for a negative weight or an omega that is not above 0.
    """

    name: str
    values: Callable[[Config], Sequence[float]]
    limits: Callable[[int], tuple[float, float]]
    exponent: Callable[[int], float] = lambda layer: 1.0
    weight: float = 1.0
    omega: float = 3.0
    clip: bool = True

    def __post_init__(self) -> None:
        if not (np.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"the weight of {self.name} must be 0 or more, got {self.weight}")
        if not (np.isfinite(self.omega) and self.omega > 0):
            raise ValueError(f"the omega of {self.name} must be above 0, got {self.omega}")


def same_limits(low: float, high: float) -> Callable[[int], tuple[float, float]]:
    """Return limits that are the same in every layer.

    The code that Deep-n-Cheap released has them for the widths of convolutions too, 16 and 64,
    and clips nothing; its paper doubles them.
    """
    return lambda layer: (low, high)


def doubling_limits(
    low: float, high: float, at_most: float
) -> Callable[[int], tuple[float, float]]:
    """Return limits whose upper one doubles with each layer until it reaches `at_most`.

    They are the paper's for the widths of convolutions, which may at most double: 16 and 64, 128...
    """
    return lambda layer: (low, min(high * 2**layer, at_most))


def layer_root(layer: int) -> float:
    """Return Deep-n-Cheap's exponent for the width of a convolution: 1, 1/2, 1/3, then 1/4."""
    return 1 / min(layer + 1, 4)


@dataclass(frozen=True)
class Ramp:
    """The distances of two lists of configurations in one component, apart from omega.

    A layer that a pair lacks on one side or both has the square 1; `layers` counts those of the
    deeper net: [n_a, n_b].
    """

    squares: Array
    layers: Array

    def kernel(self, omega: float) -> Array:
        """Return the component kernel: [n_a, n_b]."""
        total, near = np.zeros_like(self.layers), np.empty_like(self.layers)
        for square in self.squares:
            np.multiply(square, -0.5 * omega**2, out=near)
            total += np.exp(near, out=near)
        return self._mean(total, np.exp(-0.5 * omega**2), alike=1.0)

    def slope(self, omega: float) -> Array:
        """Return the derivative of the component kernel by log(omega): [n_a, n_b]."""
        slope = np.zeros_like(self.layers)
        for square in self.squares:
            slope += square * np.exp(square * (-0.5 * omega**2))
        return -(omega**2) * self._mean(slope, np.exp(-0.5 * omega**2), alike=0.0)

    def _mean(self, total: Array, absent: float, *, alike: float) -> Array:
        """Return the mean over the deeper net's layers of a total over all layers there are;
        `alike` is that of two nets without a layer.
        """
        total -= (len(self.squares) - self.layers) * absent
        return np.where(self.layers > 0, total / np.maximum(self.layers, 1), alike)


def ramp(component: Component, configs_a: Sequence[Config], configs_b: Sequence[Config]) -> Ramp:
    """Return the distances between two lists of configurations in one component.

    Raises ValueError for a value that is not finite, limits out of order, and an exponent outside
    of 0 < r <= 1.
    """
    return _ramp(component, _scaled(component, configs_a), _scaled(component, configs_b))


def gram(
    components: Sequence[Component], configs_a: Sequence[Config], configs_b: Sequence[Config]
) -> Array:
    """Return the kernel of every pair of configurations, the sum of s * k: [n_a, n_b].

    Raises ValueError as `ramp` does, and where no component has a weight above 0.
    """
    total = np.zeros((len(configs_a), len(configs_b)))
    for component, share in zip(components, shares(components), strict=True):
        a, b = _scaled(component, configs_a), _scaled(component, configs_b)
        # a few rows at a time, which stay in the cache
        for start in range(0, len(configs_a), 32):
            rows = slice(start, start + 32)
            total[rows] += share * _ramp(component, a[:, rows], b).kernel(component.omega)
    return total


def _ramp(component: Component, a: Array, b: Array) -> Ramp:
    """Return the distances of scaled values: a [layers, n_a], b [layers, n_b]."""
    squares = np.ones((max(len(a), len(b)), a.shape[1], b.shape[1]))
    for layer, (row_a, row_b, square) in enumerate(zip(a, b, squares, strict=False)):
        np.subtract(row_a[:, None], row_b, out=square)
        np.power(np.abs(square, out=square), 2 * _exponent(component, layer), out=square)
        np.copyto(square, 1.0, where=np.isnan(square))
    return Ramp(squares, np.maximum(_depths(a)[:, None], _depths(b)))


def shares(components: Sequence[Component]) -> Array:
    """Return the weights made to add up to 1: [components]."""
    weights = np.array([component.weight for component in components])
    if not weights.sum() > 0:
        names = ", ".join(component.name for component in components) or "none"
        raise ValueError(f"a kernel needs a component with a weight above 0; it has: {names}")
    normalised: Array = weights / weights.sum()
    return normalised


def _scaled(component: Component, configs: Sequence[Config]) -> Array:
    """Return (x - l) / (u - l), NaN where a configuration has no such layer: [layers, n]."""
    rows = [component.values(config) for config in configs]
    most = max(map(len, rows), default=0)
    scaled = np.array([[*row, *[np.nan] * (most - len(row))] for row in rows], dtype=np.float64)
    scaled = np.ascontiguousarray(scaled.reshape(len(rows), most).T)
    present = np.arange(most)[:, None] < [len(row) for row in rows]
    bad = np.flatnonzero((present & ~np.isfinite(scaled)).any(axis=0))
    if len(bad):
        row, config = rows[bad[0]], configs[bad[0]]
        raise ValueError(f"{component.name} must be finite, got {list(row)} of {dict(config)}")
    for layer, values in enumerate(scaled):
        low, high = component.limits(layer)
        if not (np.isfinite([low, high]).all() and low <= high):
            raise ValueError(
                f"layer {layer} of {component.name} has the limits {low}..{high}; "
                "give two finite numbers, the lower first"
            )
        if component.clip:
            np.clip(values, low, high, out=values)
        values -= low
        values /= (high - low) if high > low else np.inf
    return scaled


def _depths(scaled: Array) -> Array:
    """Return how many layers each configuration has: [n]."""
    return np.asarray(np.sum(~np.isnan(scaled), axis=0), dtype=np.float64)


def _exponent(component: Component, layer: int) -> float:
    exponent = component.exponent(layer)
    if not 0 < exponent <= 1:
        raise ValueError(
            f"layer {layer} of {component.name} has the exponent {exponent}; choose one above 0 "
            "and up to 1, for others the kernel is not positive definite"
        )
    return exponent

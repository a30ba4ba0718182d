"""What the Gaussian process compares: one component per quantity, one number per layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dnc_search.parameters import Config


@dataclass(frozen=True)
class Component:
    """A quantity of a configuration: `values` gives a number per layer, one for a scalar.

    `limits` gives the range (l, u) and `exponent` the r of layer i, counted from 0; `weight` is
    its share s_k before the shares are made to add up to 1, `omega` the distance at which two
    values are as far apart as can be.
    """

    name: str
    values: Callable[[Config], Sequence[float]]
    limits: Callable[[int], tuple[float, float]]
    exponent: Callable[[int], float] = lambda layer: 1.0
    weight: float = 1.0
    omega: float = 3.0

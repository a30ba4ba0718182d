"""The stages between the two Gaussian processes: each tries a few changes to the best so far.

The changes are those of Deep-n-Cheap, without the ones that change nothing: a network that is
known already, or equal to one tried, is not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from math import ceil

from dnc_search.parameters import Config, Value
from dnc_search.space import Grid

Change = dict[str, Value]
Changes = Callable[[Config], Iterable[Change]]


def grid(name: str, tried: Changes, network: Callable[[Config], object]) -> Grid:
    """Return a stage of those changes that lead to new networks, as told apart by `network`."""

    def changes(config: Config) -> list[Change]:
        seen = {network(config)}
        kept = []
        for change in tried(config):
            made = network({**config, **change})
            if made not in seen:
                seen.add(made)
                kept.append(change)
        return kept

    return Grid(name, changes)


def values_of(name: str, values: Sequence[Value]) -> Changes:
    """Try each value of one name."""
    return lambda config: [{name: value} for value in values]


def strided_of(count: Callable[[Config], int]) -> Changes:
    """Try strides in place of pooling, at every subset of the `count` places that halve the image.

    The value lists the places that have a stride, as "1,3".
    """

    def tried(config: Config) -> list[Change]:
        places = [str(i) for i in range(1, count(config) + 1)]
        subsets = (chosen for n in range(len(places) + 1) for chosen in combinations(places, n))
        return [{"strided": ",".join(chosen)} for chosen in subsets]

    return tried


def dropout_of(
    fractions: Sequence[float], first: Sequence[float], later: Sequence[float]
) -> Changes:
    """Try dropout after these fractions of the layers, with each probability.

    Those in `first` are for the first layer, where it has dropout, those in `later` for the others.
    """
    return lambda config: [
        {"dropout_fraction": fraction, "dropout_first": p_first, "dropout": p_later}
        for fraction in fractions
        for p_first in first
        for p_later in later
    ]


def spread(fraction: float, count: int) -> frozenset[int]:
    """Return the layers, from 0, that a fraction of `count` falls on: evenly, as late as possible.

    ceil(fraction * count) layers, the k-th of n after ceil(k * count / n) (Deep-n-Cheap's public
    code): half of 7 are layers 2, 4, 6 and 7, counted from 1.
    """
    # a fraction that was meant as a whole number of layers must not gain one by rounding
    chosen = ceil(fraction * count - 1e-9)
    return frozenset(-(-k * count // chosen) - 1 for k in range(1, chosen + 1))

"""The networks of a front: dense ones of several widths, sparse ones of widths and densities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import torch

from dnc_sparse.nn import SparseMLP


@dataclass(frozen=True)
class Network:
    """A perceptron of `depth` hidden layers with `width` neurons each.

    `density` is that of every junction but the last, which is dense; None means all are dense.
    `block` is a side of the square blocks of edges.
    """

    width: int
    depth: int
    density: float | None = None
    block: int = 1

    @property
    def is_dense(self) -> bool:
        """Whether no junction is thinned."""
        return self.density is None

    @property
    def kind(self) -> str:
        """Return what networks of several widths have in common: "dense", "1/8, 8x8"."""
        if self.density is None:
            return "dense"
        share = Fraction(self.density).limit_denominator(1000)
        return f"{share}, {self.block}x{self.block}"

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.kind}, h = {self.width}"

    def sizes(self, n_in: int, n_out: int) -> tuple[int, ...]:
        """Return the neurons of each layer."""
        return (n_in, *[self.width] * self.depth, n_out)

    def build(self, n_in: int, n_out: int, seed: int) -> SparseMLP:
        """Return the network with this seed's patterns and weights, as its layers draw them."""
        densities = (*[self.density or 1.0] * self.depth, 1.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return SparseMLP(self.sizes(n_in, n_out), densities, block=self.block, seed=seed)

    def edges(self, n_in: int, n_out: int) -> int:
        """Return about how many weights it has, before any pattern is drawn."""
        hidden = n_in * self.width + (self.depth - 1) * self.width**2
        return round(hidden * (self.density or 1.0)) + self.width * n_out


def dense_networks(widths: Sequence[int], depth: int) -> list[Network]:
    """Return the dense networks, narrow ones first."""
    return [Network(width, depth) for width in sorted(set(widths))]


def sparse_networks(
    widths: Sequence[int],
    densities: Sequence[float],
    blocks: Sequence[int],
    depth: int,
    n_in: int,
) -> list[Network]:
    """Return the sparse networks that exist, by block, density and width.

    Left out are those whose blocks do not divide their layers, whose density the blocks cannot
    give within a tenth, and whose junctions would have every edge.
    """
    every = product(sorted(set(blocks)), sorted(set(densities), reverse=True), sorted(set(widths)))
    return [
        Network(width, depth, density, block)
        for block, density, width in every
        if all(_exists(left, width, density, block) for left in {n_in, width})
    ]


def _exists(n_in: int, n_out: int, density: float, block: int) -> bool:
    if n_in % block or n_out % block or density >= 1:
        return False
    slots = density * (n_in // block)
    return slots >= 0.5 and abs(round(slots) / slots - 1) <= 0.1

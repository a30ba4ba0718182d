"""The networks of the MLP spaces, in plain modules, their weights drawn from a seed.

| name    | meaning                                    | shape          |
|---------|--------------------------------------------|----------------|
| sizes   | neurons of each layer, inputs first        | layers         |
| density | edges / (n_in * n_out) of each junction    | layers - 1     |
| block   | sides (bo, bi) of a junction's dense tiles | layers - 1 x 2 |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import torch
from torch import nn

from dnc_sparse.nn import SparseLinear, he_normal_
from dnc_sparse.nn.mlp import junction_seeds
from dnc_sparse.patterns.blocks import FARTHEST, SIDES, Auto, allows
from dnc_sparse.patterns.feasible import nearest_slots, slot_step

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


@dataclass(frozen=True)
class Junction:
    """Connections between two layers of a network that is not built yet."""

    n_in: int
    n_out: int
    density: float = 1.0
    block: tuple[int, int] = (1, 1)
    family: str = "auto"

    @property
    def n_edges(self) -> int:
        """Weights, of which a density is a whole number."""
        return round(self.density * self.n_in * self.n_out)

    @property
    def n_parameters(self) -> int:
        """Weights and biases."""
        return self.n_edges + self.n_out

    def build(self, seed: int, *, relu: bool = False) -> nn.Module:
        """Return the layer: dense where every edge is there, else with a pattern from the seed.

        Only a sparse layer applies `relu` itself.
        """
        if self.density == 1:
            return nn.Linear(self.n_in, self.n_out)
        return SparseLinear(
            *(self.n_in, self.n_out, self.density),
            block=self.block,
            family=self.family,
            seed=seed,
            relu=relu,
        )


@dataclass(frozen=True)
class MlpPlan:
    """A multilayer perceptron before it is built; equal plans are equal networks."""

    junctions: tuple[Junction, ...]
    activation: str
    dropout: float

    @property
    def n_parameters(self) -> int:
        """Weights and biases of all junctions."""
        return sum(junction.n_parameters for junction in self.junctions)

    def build(self, seed: int) -> nn.Module:
        """Return the network: [batch, n_in] to [batch, n_out], no activation after the last layer.

        The weights are He's normal for the edges a neuron has, the biases 0.1; the same seed gives
        the same patterns and weights. The global random state is left alone.
        """
        with torch.random.fork_rng(devices=[]):
            network = nn.Sequential(*self._layers(seed))
        he_normal_(network, fan_in="sparse", generator=torch.Generator().manual_seed(seed))
        return network

    def _layers(self, seed: int) -> Iterator[nn.Module]:
        *hidden, last = zip(self.junctions, junction_seeds(seed, len(self.junctions)), strict=True)
        for junction, pattern_seed in hidden:
            layer = junction.build(pattern_seed, relu=self.activation == "relu")
            yield layer
            if not (isinstance(layer, SparseLinear) and layer.relu):
                yield ACTIVATIONS[self.activation]()
            if self.dropout:
                yield nn.Dropout(self.dropout)
        yield last[0].build(last[1])


def dense_junctions(sizes: Sequence[int]) -> tuple[Junction, ...]:
    """Return the junctions of a fully connected network with these layer sizes."""
    return tuple(Junction(n_in, n_out) for n_in, n_out in pairwise(sizes))


def nearest_junction(
    n_in: int,
    n_out: int,
    density: float,
    limits: tuple[float, float],
    side: int | Auto = 1,
    family: str = "auto",
) -> Junction:
    """Return the junction of the density nearest to the one asked for that its sizes allow.

    The nearest within the limits (lowest, highest), and where there is none the smallest above
    them. Blocks have sides of `side`, or of its greatest common divisor with n_out and n_in; with
    "auto" the largest that `dnc_sparse.patterns.choose_block` allows without leaving the limits.
    """
    if side != "auto":
        return _in_blocks(n_in, n_out, density, limits, side, family)
    low, high = limits
    wish = min(max(density, low), high)
    for size in SIDES:
        if allows(n_in, n_out, wish, size, family):
            junction = _in_blocks(n_in, n_out, wish, limits, size, family)
            # within the limits it may be rounded the other way, and farther
            near = abs(junction.density - wish) <= FARTHEST * wish
            if near and low - 1e-9 <= junction.density <= high + 1e-9:
                break
    else:
        junction = _in_blocks(n_in, n_out, wish, limits, 1, family)
    if junction.density == wish or not low <= junction.density <= high:
        return junction
    # the density that it has may allow a larger block; of that one in turn the same comes out
    return nearest_junction(n_in, n_out, junction.density, limits, side, family)


def _in_blocks(
    n_in: int,
    n_out: int,
    density: float,
    limits: tuple[float, float],
    side: int,
    family: str,
) -> Junction:
    """Return the nearest junction in blocks of one side."""
    block = bo, bi = gcd(n_out, side), gcd(n_in, side)
    rows, columns = n_out // bo, n_in // bi
    if family == "random":
        # any number of edge blocks
        units, step = rows * columns, 1
    else:
        constant = family in ("clash_free", "cyclic")
        units, step = columns, slot_step(n_in, n_out, block, constant_degrees=constant)
    low, high = (limit * units for limit in limits)
    # a limit that is feasible must not be missed by rounding
    slack = 1e-9 * units
    count = nearest_slots(min(max(density * units, low), high), units, step)
    if count < low - slack:
        count += step
    elif count > high + slack and count - step >= max(low - slack, step):
        count -= step
    exact = count / units
    return Junction(n_in, n_out) if exact == 1 else Junction(n_in, n_out, exact, block, family)


def check_activations(names: Sequence[str]) -> None:
    """Raise ValueError for no name, one given twice and one that is unknown."""
    unknown = [name for name in names if name not in ACTIVATIONS]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(
            f"activations must be some of {', '.join(ACTIVATIONS)}, each once; got {tuple(names)}"
        )

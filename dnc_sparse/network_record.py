"""What a `state_dict` tells of the network that it belongs to, to say how two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from dnc_sparse.nn.base import RECORD
from dnc_sparse.nn.state import decode_pattern
from dnc_sparse.patterns import Pattern


@dataclass(frozen=True)
class Junction:
    """A linear layer of a state; `pattern` is None for a dense one."""

    n_in: int
    n_out: int
    pattern: Pattern | None

    @property
    def edges(self) -> int:
        """Weights in use."""
        return self.n_in * self.n_out if self.pattern is None else self.pattern.n_edges


def junctions(state: Mapping[str, Any]) -> list[Junction]:
    """Return the linear layers of a state, in its order.

    Raises ValueError for a record of a pattern that is damaged.
    """
    found = []
    for key, weight in state.items():
        prefix = key.removesuffix("weight")
        if prefix == key or not torch.is_tensor(weight):
            continue
        record = state.get(prefix + RECORD)
        if torch.is_tensor(record):
            pattern = decode_pattern(record)
            found.append(Junction(pattern.n_in, pattern.n_out, pattern))
        elif weight.dim() == 2:
            found.append(Junction(weight.shape[1], weight.shape[0], None))
    return found


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Say in which way the network of one state is another than that of the other.

    The first that differs of layers, density and patterns, as "density 0.5, now 0.25"; None where
    none of these does.
    """
    first, second = junctions(before), junctions(now)
    sizes = [[(j.n_in, j.n_out) for j in found] for found in (first, second)]
    if sizes[0] != sizes[1]:
        return f"layers {_layers(first)}, now {_layers(second)}"
    densities = [_density(found) for found in (first, second)]
    if densities[0] != densities[1]:
        return f"density {densities[0]}, now {densities[1]}"
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        if one.pattern != other.pattern:
            named = [_pattern(junction) for junction in (one, other)]
            return f"another pattern in junction {number}: {named[0]}, now {named[1]}"
    return None


def _layers(found: list[Junction]) -> str:
    if not found:
        return "none"
    chained = all(a.n_out == b.n_in for a, b in pairwise(found))
    if chained:
        return "-".join(map(str, (found[0].n_in, *(j.n_out for j in found))))
    return ", ".join(f"{j.n_in} -> {j.n_out}" for j in found)


def _density(found: list[Junction]) -> str:
    return f"{sum(j.edges for j in found) / max(sum(j.n_in * j.n_out for j in found), 1):.4g}"


def _pattern(junction: Junction) -> str:
    if junction.pattern is None:
        return "dense"
    family, (bo, bi) = junction.pattern.family, junction.pattern.block
    seed = junction.pattern.options.get("seed", "-")
    return f"{family} of {junction.edges} edges, block {bo}x{bi}, seed {seed}"

"""How many weights each layer may keep: one density, one per name, or a budget for all."""

from __future__ import annotations

import heapq
import operator
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from dnc_sparse.nn.candidates import Candidate, names_of
from dnc_sparse.patterns import choose_block

Density = float | Mapping[str, float]


def share_out(
    layers: Sequence[Candidate],
    density: Density | None,
    budget: int | None,
    choice: Mapping[str, Any],
) -> dict[str, tuple[int, int]]:
    """Write into each layer the density it is asked to have, or that it is asked for none.

    Layers that already have a reason to stay are left out. `choice` has the block, the family and
    its options as `nearest` takes them. A budget is shared out in whole blocks: returned are those
    of each layer, by its first name, where the block is "auto".

    Raises ValueError for a density out of range, a name that fits no layer, and a budget too small;
    TypeError for what is no number.
    """
    fit = [layer for layer in layers if layer.reason is None]
    if isinstance(density, Mapping):
        _by_name(layers, density)
    elif density is not None:
        for layer in fit:
            layer.asked = float(density)
    else:
        assert budget is not None
        block = choice["block"]
        if block != "auto":
            _by_budget(fit, budget, [block] * len(fit))
            return {}
        _by_budget(fit, budget, [(1, 1)] * len(fit))
        blocks = [_block_within(layer, choice) for layer in fit]
        _by_budget(fit, budget, blocks)
        return {layer.names[0]: size for layer, size in zip(fit, blocks, strict=True)}
    return {}


def check_density(density: object) -> None:
    """Raise TypeError or ValueError for a density that is no number in (0, 1], or a map of them."""
    if isinstance(density, Mapping):
        for name, value in density.items():
            if not isinstance(name, str):
                raise TypeError(f"density has a key {name!r} ({type(name).__name__}), no name")
            check_number(f"density of {name!r}", value)
    else:
        check_number("density", density)


def check_whole(name: str, value: object) -> int:
    """Return the value as an int; raise TypeError, naming it, for what is no whole number."""
    if not isinstance(value, bool):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{name} must be a whole number, got {_shown(value)}")


def check_budget(layers: Sequence[Candidate], budget: int, family: str) -> None:
    """Raise ValueError when the patterns need more weights than the budget has."""
    needed = sum(layer.weights for layer in layers)
    if needed > budget:
        raise ValueError(
            f"{family!r} patterns near the budget of {budget:,} weights need {needed:,}; "
            f"use family='auto', or a budget that much larger"
        )


def check_number(what: str, value: object) -> None:
    """Raise TypeError or ValueError, naming it, for what is no number in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{what} must be a number in (0, 1], such as 0.25; got {_shown(value)}")
    if not 0 < float(value) <= 1:
        raise ValueError(f"{what} must lie in (0, 1], got {value}")


def _shown(value: object) -> str:
    kind = type(value).__name__
    text = repr(value)
    return f"{text} ({kind})" if len(text) <= 40 else f"a {kind}"


def _by_name(layers: Sequence[Candidate], densities: Mapping[str, float]) -> None:
    for name in densities:
        if not any(layer.called(name) for layer in layers):
            raise ValueError(
                f"density names no linear layer: {name!r}; linear layers: {names_of(layers)}"
            )
    for layer in layers:
        if layer.reason is not None:
            continue
        # a layer's full name says more than a glob or the name of a module around it
        fitting = sorted(
            (name for name in densities if layer.called(name)), key=lambda n: n not in layer.names
        )
        if fitting:
            layer.asked = float(densities[fitting[0]])
        else:
            layer.reason = "no density is asked for it"


def _block_within(layer: Candidate, choice: Mapping[str, Any]) -> tuple[int, int]:
    """Return the block in which a layer may have a little less than it is asked to have."""
    # those with equal degrees are rounded up as well, which in blocks might exceed the budget
    if len(choice) > 2 or choice["family"] in ("clash_free", "cyclic"):
        return 1, 1
    assert layer.asked is not None
    return choose_block(layer.n_in, layer.n_out, layer.asked, at_most=True)


def _by_budget(layers: Sequence[Candidate], budget: int, blocks: Sequence[tuple[int, int]]) -> None:
    sides = [bi for _, bi in blocks]
    for layer, bi in zip(layers, sides, strict=True):
        layer.asked = bi / layer.n_in
    spent = sum(layer.n_out * bi for layer, bi in zip(layers, sides, strict=True))
    if spent > budget:
        raise ValueError(
            f"a budget of {budget:,} weights is too small: {len(layers)} layers with one "
            f"block per row need {spent:,}; raise the budget, or skip layers"
        )
    # the layer that stays sparsest with one block more per row goes first
    queue = [
        (2 * bi / layer.n_in, i, 2) for i, (layer, bi) in enumerate(zip(layers, sides, strict=True))
    ]
    heapq.heapify(queue)
    while queue:
        share, i, blocks_each = heapq.heappop(queue)
        layer, bi = layers[i], sides[i]
        step = layer.n_out * bi
        if share <= 1 and spent + step <= budget:
            layer.asked = share
            spent += step
            heapq.heappush(queue, ((blocks_each + 1) * bi / layer.n_in, i, blocks_each + 1))

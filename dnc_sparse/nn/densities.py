"""How many weights each layer may keep: one density, one per name, or a budget for all."""

from __future__ import annotations

import heapq
import operator
from collections.abc import Mapping, Sequence
from numbers import Real

from dnc_sparse.nn.candidates import Candidate, names_of

Density = float | Mapping[str, float]


def share_out(
    layers: Sequence[Candidate], density: Density | None, budget: int | None, block: tuple[int, int]
) -> None:
    """Write into each layer the density it is asked to have, or that it is asked for none.

    Layers that already have a reason to stay are left out.

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
        _by_budget(fit, budget, block)


def check_density(density: object) -> None:
    """Raise TypeError or ValueError for a density that is no number in (0, 1], or a map of them."""
    if isinstance(density, Mapping):
        for name, value in density.items():
            if not isinstance(name, str):
                raise TypeError(f"density has a key {name!r} ({type(name).__name__}), no name")
            _check_number(f"density of {name!r}", value)
    else:
        _check_number("density", density)


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


def _check_number(what: str, value: object) -> None:
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


def _by_budget(layers: Sequence[Candidate], budget: int, block: tuple[int, int]) -> None:
    bi = block[1]
    for layer in layers:
        layer.asked = bi / layer.n_in
    spent = sum(layer.n_out * bi for layer in layers)
    if spent > budget:
        raise ValueError(
            f"a budget of {budget:,} weights is too small: {len(layers)} layers with one "
            f"block per row need {spent:,}; raise the budget, or skip layers"
        )
    # the layer that stays sparsest with one block more per row goes first
    queue = [(2 * bi / layer.n_in, i, 2) for i, layer in enumerate(layers)]
    heapq.heapify(queue)
    while queue:
        share, i, blocks = heapq.heappop(queue)
        step = layers[i].n_out * bi
        if share <= 1 and spent + step <= budget:
            layers[i].asked = share
            spent += step
            heapq.heappush(queue, ((blocks + 1) * bi / layers[i].n_in, i, blocks + 1))

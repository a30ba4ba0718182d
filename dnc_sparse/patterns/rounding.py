"""Patterns by approximate density: what layers ask for."""

from __future__ import annotations

import inspect
import warnings
from difflib import get_close_matches
from typing import Any

from dnc_sparse.patterns.banked import clash_free, cyclic
from dnc_sparse.patterns.blocks import AnyBlock, asked_block, choose_block
from dnc_sparse.patterns.families import random, regular
from dnc_sparse.patterns.feasible import (
    exact_slots,
    nearest_slots,
    slot_step,
    slots_around,
)
from dnc_sparse.patterns.pattern import Pattern
from dnc_sparse.patterns.sizes import check_drawable, check_sizes, real

FAMILIES = ("auto", "clash_free", "cyclic", "regular", "random")
OPTIONS: dict[str, tuple[str, ...]] = {
    "clash_free": ("banks", "kind", "dither", "bank_map"),
    "cyclic": ("banks",),
    "regular": (),
    "random": (),
}
NOTABLE_CHANGE = 0.1


def nearest(
    n_in: int,
    n_out: int,
    *,
    density: float | None = None,
    fan_in: int | None = None,
    fan_out: int | None = None,
    family: str = "auto",
    block: AnyBlock = 1,
    seed: int = 0,
    **options: Any,
) -> Pattern:
    """Draw a pattern of the density nearest to the one asked for; degrees given are met exactly.

    `family` is "clash_free", "cyclic", "regular", "random", or "auto": clash_free where that fan_in
    allows equal fan_outs, regular otherwise. `options` (banks, kind, dither, bank_map) go to it.
    A density is rounded to the nearest whole fan_in that the family can have, at least one block;
    a change by more than a tenth of the request is a UserWarning. With `block="auto"` a density
    gets the block of `choose_block`; degrees, which are met exactly, and patterns with `options`,
    which are those of the hardware, get 1x1.

    Raises ValueError for an unknown family or block, a density outside 0..1, degrees that are
    infeasible, options without banks to apply to, and more edges than can be numbered; TypeError
    for an option that no family has, and for what is no number.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown pattern family {family!r}; choose one of {', '.join(FAMILIES)}")
    _refuse_unknown(family, options)
    asked = asked_block(block)
    size = asked or (1, 1)
    check_sizes(n_in, n_out, size)
    wishes = {"fan_in": fan_in, "fan_out": fan_out}
    if density is not None and fan_in is None and fan_out is None:
        density = real("density", density)
        if not 0 < density <= 1:
            raise ValueError(f"density must be above 0 and at most 1, got {density:g}")
        if asked is None and not options:
            size = choose_block(n_in, n_out, density, family)
        if family == "random":
            _refuse_options(family, options)
            return random(n_in, n_out, density=density, block=size, seed=seed)
        constant = family in ("clash_free", "cyclic")
        step = slot_step(n_in, n_out, size, constant_degrees=constant)
        slots = nearest_slots(density * (n_in // size[1]), n_in // size[1], step)
        check_drawable(n_in, n_out, slots * size[1] * n_out, size)
        _warn_if_far(n_in, n_out, density, slots, step, size)
    else:
        slots = exact_slots(n_in, n_out, size, **wishes, density=density, constant_degrees=False)
    exact = slots % slot_step(n_in, n_out, size, constant_degrees=True) == 0
    chosen = ("clash_free" if exact else "regular") if family == "auto" else family
    arguments: dict[str, Any] = {"fan_in": slots * size[1], "block": size, "seed": seed}
    _refuse_options(chosen, options)
    if chosen == "clash_free":
        return clash_free(n_in, n_out, **arguments, **options)
    if chosen == "cyclic":
        return cyclic(n_in, n_out, **arguments, **options)
    if chosen == "random":
        return random(n_in, n_out, density=slots * size[1] / n_in, block=size, seed=seed)
    return regular(n_in, n_out, **arguments)


def _refuse_options(family: str, options: dict[str, Any]) -> None:
    foreign = [name for name in options if name not in OPTIONS[family]]
    if foreign:
        raise ValueError(
            f"a {family} pattern takes no {', '.join(foreign)}; leave them out, or choose the "
            f"clash_free family and a density at which it exists"
        )


def _refuse_unknown(family: str, options: dict[str, Any]) -> None:
    """Raise TypeError for the first option that no family has, with those of the one asked for."""
    known = {name for names in OPTIONS.values() for name in names}
    for name in options:
        if name in known:
            continue
        taken = OPTIONS["clash_free" if family == "auto" else family]
        also = [*inspect.signature(nearest).parameters, *known]
        close = get_close_matches(name, [other for other in also if other != "options"], 1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise TypeError(
            f"unknown option {name!r} of the {family} family, which takes "
            f"{', '.join(taken) or 'none'}{meant}"
        )


def _warn_if_far(
    n_in: int, n_out: int, density: float, slots: int, step: int, block: tuple[int, int]
) -> None:
    columns = n_in // block[1]
    if abs(slots / columns - density) <= NOTABLE_CHANGE * density:
        return
    around = slots_around(density * columns, columns, step)
    near = " and ".join(f"{value / columns:.4g}" for value in around if value is not None)
    warnings.warn(
        f"density {density:g} of a {n_in} -> {n_out} junction becomes {slots / columns:.4g}; "
        f"feasible neighbours: {near}",
        UserWarning,
        stacklevel=3,
    )

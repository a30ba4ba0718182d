"""Which degrees and densities a junction can have.

| name    | meaning                                                        |
|---------|----------------------------------------------------------------|
| rows    | right block rows, n_out / bo                                   |
| columns | left block columns, n_in / bi                                  |
| slots   | edge blocks into a right block row, fan_in / bi                |
| step    | smallest number of slots at which both degrees are constant    |

Constant degrees on both sides need rows * slots to be a multiple of columns, so slots is a multiple
of columns / g and the density one of 1/g, 2/g, ..., 1 with g = gcd(rows, columns) (Dey et al.,
"Pre-Defined Sparse Neural Networks with Hardware Acceleration", arXiv 1812.01164).
"""

from __future__ import annotations

from math import gcd

from dnc_sparse.patterns.sizes import as_block, check_drawable, check_sizes, real, whole

Block = int | tuple[int, int] | list[int]


def feasible_densities(n_in: int, n_out: int, block: Block = 1) -> list[float]:
    """Return, ascending, each density at which every fan_in and every fan_out can be equal."""
    size = as_block(block)
    check_sizes(n_in, n_out, size)
    g = gcd(n_out // size[0], n_in // size[1])
    return [k / g for k in range(1, g + 1)]


def neighbours(
    n_in: int, n_out: int, density: float, block: Block = 1
) -> tuple[float | None, float | None]:
    """Return the feasible densities at or below and at or above `density`, None where none is."""
    size, density = as_block(block), real("density", density)
    check_sizes(n_in, n_out, size)
    columns = n_in // size[1]
    below, above = slots_around(
        density * columns, columns, slot_step(n_in, n_out, size, constant_degrees=True)
    )
    return (
        None if below is None else below / columns,
        None if above is None else above / columns,
    )


def slot_step(n_in: int, n_out: int, block: tuple[int, int], *, constant_degrees: bool) -> int:
    """Return the number of slots that every feasible number of slots is a multiple of."""
    rows, columns = n_out // block[0], n_in // block[1]
    return columns // gcd(rows, columns) if constant_degrees else 1


def slots_around(slots: float, columns: int, step: int) -> tuple[int | None, int | None]:
    """Return the feasible slots at or below and at or above a wish, None where none is."""
    nearest = round(slots / step) * step
    if abs(nearest - slots) <= 1e-9 * columns:
        below = above = nearest
    else:
        below = int(slots // step) * step
        above = below + step
    return (
        None if below < step else min(below, columns),
        None if above > columns else max(above, step),
    )


def nearest_slots(slots: float, columns: int, step: int) -> int:
    """Return the feasible number of slots nearest to a wish, the larger of two equally near."""
    below, above = slots_around(slots, columns, step)
    if below is None or above is None:
        return step if below is None else below
    return below if slots - below < above - slots else above


def exact_slots(
    n_in: int,
    n_out: int,
    block: tuple[int, int],
    *,
    fan_in: int | None,
    fan_out: int | None,
    density: float | None,
    constant_degrees: bool,
) -> int:
    """Return the slots of the one degree or density given, met exactly.

    With `constant_degrees` the fan_out must come out equal everywhere too (it always must when it
    is what was given). Raises ValueError, naming the feasible neighbours, where that is impossible,
    and for more edges than can be numbered; TypeError, with its name, for what is no number;
    RuntimeError for more edges than this machine can hold.
    """
    check_sizes(n_in, n_out, block)
    wish, value = _only_one(fan_in=fan_in, fan_out=fan_out, density=density)
    value = real(wish, value) if wish == "density" else whole(wish, value)
    columns = n_in // block[1]
    # one unit of the wish makes this many slots
    scale = {"fan_in": 1 / block[1], "fan_out": columns / n_out, "density": columns}[wish]
    largest = {"fan_in": n_in, "fan_out": n_out, "density": 1}[wish]
    if not 0 < value <= largest:
        raise ValueError(
            f"{wish} {value:g} of a {n_in} -> {n_out} junction must be above 0 "
            f"and at most {largest}"
        )
    step = slot_step(n_in, n_out, block, constant_degrees=constant_degrees or wish == "fan_out")
    below, above = slots_around(value * scale, columns, step)
    if below == above and below is not None:
        check_drawable(n_in, n_out, below * block[1] * n_out, block)
        return below
    near = " or ".join(f"{slots / scale:.6g}" for slots in (below, above) if slots is not None)
    blocks = "" if block == (1, 1) else f" in {block[0]}x{block[1]} blocks"
    raise ValueError(
        f"{_misfit(wish, value, n_in, n_out, blocks)}; nearest {wish} that fits: {near}"
    )


def _only_one(**wishes: float | None) -> tuple[str, float]:
    given = {name: value for name, value in wishes.items() if value is not None}
    if len(given) != 1:
        got = ", ".join(f"{name}={value}" for name, value in given.items()) or "none of them"
        raise ValueError(f"give exactly one of {', '.join(wishes)}; got {got}")
    return next(iter(given.items()))


def _misfit(wish: str, value: float, n_in: int, n_out: int, blocks: str) -> str:
    if wish == "density":
        return f"density {value:g} of a {n_in} -> {n_out} junction gives uneven degrees{blocks}"
    near, many, far, few = (
        ("inputs", n_in, "outputs", n_out)
        if wish == "fan_out"
        else ("outputs", n_out, "inputs", n_in)
    )
    return (
        f"{many} {near} with {wish} {value:g} make {many * value:g} edges, "
        f"which {few} {far} cannot share equally{blocks}"
    )

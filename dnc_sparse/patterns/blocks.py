"""Which blocks the edges of a junction come in where `block="auto"` leaves it open.

| name    | meaning                                                          |
|---------|------------------------------------------------------------------|
| side    | neurons along each side of a square block, largest first: SIDES  |
| rows    | right block rows, n_out / side                                   |
| columns | left block columns, n_in / side                                  |
| slots   | edge blocks into a right block row, of `columns`                 |

The rule depends on nothing but its arguments, so that the same layer is the same everywhere. Why it
is this one: docs/decisions/0013-block-auto.md.
"""

from __future__ import annotations

from math import ceil
from typing import Literal

from dnc_sparse.patterns.feasible import Block, nearest_slots, slot_step, slots_around
from dnc_sparse.patterns.sizes import as_block, check_sizes, real

Auto = Literal["auto"]
AnyBlock = Block | Auto

SIDES = (8, 4)
# blocks that each block row and each block column has at least; with one a network falls apart
FEWEST_IN_ROW = 4
FEWEST_IN_COLUMN = 2
# by how much a density may change for the sake of the block; half of what is a warning
FARTHEST = 0.05


def choose_block(
    n_in: int, n_out: int, density: float, family: str = "auto", *, at_most: bool = False
) -> tuple[int, int]:
    """Return (8, 8), (4, 4) or (1, 1): the largest block that the sizes and the density allow.

    A block is allowed when it divides both sides, when the nearest density that the family has in
    such blocks (with `at_most` the nearest below) is at most 5 % from the one asked for, and when
    every block row then has at least four blocks and every block column two, or all there are.
    Below a density of 1 no block is taken that would make it 1.

    Raises ValueError for sizes below one and a density outside 0..1, TypeError for what is no
    number.
    """
    check_sizes(n_in, n_out, (1, 1))
    density = real("density", density)
    if not 0 < density <= 1:
        raise ValueError(f"density must be above 0 and at most 1, got {density:g}")
    for side in SIDES:
        if allows(n_in, n_out, density, side, family, at_most=at_most):
            return side, side
    return 1, 1


def allows(
    n_in: int,
    n_out: int,
    density: float,
    side: int,
    family: str = "auto",
    *,
    at_most: bool = False,
) -> bool:
    """Tell whether a junction may have this density in square blocks; see `choose_block`."""
    if n_in % side or n_out % side:
        return False
    rows, columns = n_out // side, n_in // side
    slots = _slots(density, rows, columns, side, family, at_most=at_most)
    if slots >= columns:
        return density == 1
    # a random pattern's are whole in all, not in a row
    least = density * columns * (1 + 1e-9) if family == "random" else slots
    return (
        abs(slots - density * columns) <= FARTHEST * density * columns
        and least >= FEWEST_IN_ROW
        and rows * least >= FEWEST_IN_COLUMN * columns
    )


def asked_block(block: AnyBlock) -> tuple[int, int] | None:
    """Return (bo, bi), None for "auto"; raise as `as_block`, and ValueError for any other text."""
    if not isinstance(block, str):
        return as_block(block)
    if block != "auto":
        raise ValueError(f"unknown block {block!r}; give 'auto', one number, or (bo, bi)")
    return None


def _slots(
    density: float, rows: int, columns: int, side: int, family: str, *, at_most: bool
) -> float:
    """Return the edge blocks per row at the density that the family would have."""
    if family == "random":
        # any number of edge blocks, rounded up
        return ceil(density * rows * columns * (1 - 1e-9)) / rows
    constant = family in ("clash_free", "cyclic")
    step = slot_step(columns * side, rows * side, (side, side), constant_degrees=constant)
    if at_most:
        return slots_around(density * columns, columns, step)[0] or 0
    return nearest_slots(density * columns, columns, step)

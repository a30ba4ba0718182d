"""Numbers of a junction as they are asked for: whole, positive, and divided by the blocks."""

from __future__ import annotations

import operator
from typing import Any

from dnc_sparse.patterns.memory import check_memory

# tables are int32
MAX_INDEX = 2**31 - 1


def whole(name: str, value: Any) -> int:
    """Return an integer of any type as int; TypeError, with its name, for anything else."""
    try:
        return int(operator.index(value))
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None


def real(name: str, value: Any) -> float:
    """Return a number of any type as float; TypeError, with its name, for anything else."""
    # float() would read a text as well
    if not isinstance(value, (str, bytes)) and hasattr(value, "__float__"):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    raise TypeError(f"{name} must be a number, got {value!r}")


def as_block(block: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """Return (bo, bi); one number means a square block."""
    sides = block if isinstance(block, (tuple, list)) else (block, block)
    if len(sides) != 2:
        raise ValueError(f"block {block} has {len(sides)} numbers; give one or (bo, bi)")
    return (whole("block", sides[0]), whole("block", sides[1]))


def check_sizes(n_in: int, n_out: int, block: tuple[int, int]) -> None:
    """Raise ValueError unless the sizes are positive and divisible, TypeError unless whole."""
    if min(whole("n_in", n_in), whole("n_out", n_out)) < 1:
        raise ValueError(f"a junction needs at least 1 neuron a side, got {n_in} -> {n_out}")
    bo, bi = block
    if bo < 1 or bi < 1:
        raise ValueError(f"block {bo}x{bi} must have sides of at least 1")
    if n_out % bo or n_in % bi:
        raise ValueError(
            f"block {bo}x{bi} does not divide {n_out} outputs x {n_in} inputs; "
            f"choose bo among the divisors of {n_out} and bi among those of {n_in}"
        )


def check_drawable(n_in: int, n_out: int, edges: float, block: tuple[int, int] = (1, 1)) -> None:
    """Raise, before anything is drawn, for more edge blocks than can be numbered or held.

    ValueError for more than int32 can number, RuntimeError for more than this machine can hold.
    """
    blocks = edges / (block[0] * block[1])
    if blocks > MAX_INDEX:
        raise ValueError(
            f"a {n_in} -> {n_out} junction with {edges:,.0f} edges would need "
            f"{4 * edges / 2**30:,.0f} GiB for its weights in float32, and int32 numbers at most "
            f"{MAX_INDEX:,} of its blocks; choose a lower density or a larger block"
        )
    check_memory(
        f"a {n_in} -> {n_out} junction with {edges:,.0f} edges",
        # drawing takes 64 bits for each block twice: where it is, and its order in the row
        max(16 * blocks, 4 * edges),
        "choose a lower density or a larger block",
    )

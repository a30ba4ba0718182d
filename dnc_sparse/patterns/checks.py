"""Checks of a pattern against banks: clashes of reads, and balance of edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dnc_sparse.patterns.banked import access_schedule, default_banks
from dnc_sparse.patterns.interleave import BankMap, IntArray, bank_of
from dnc_sparse.patterns.pattern import Pattern


class Clash(NamedTuple):
    """Several reads of one bank in one cycle."""

    cycle: int
    bank: int
    reads: int


def clashes(
    left: ArrayLike, columns: int, banks: int, bank_map: BankMap = "blocked"
) -> list[Clash]:
    """List the clashes of reading left blocks in this order, `banks` of them per cycle.

    left: any shape, in reading order. Raises ValueError for banks that do not divide `columns`.
    """
    _check_banks(columns, banks, "left blocks")
    reads = np.asarray(left, dtype=np.int64).reshape(-1)
    cycle = np.arange(len(reads)) // banks
    cell = cycle * banks + bank_of(reads, columns, banks, bank_map)
    count = np.bincount(cell)
    return [
        Clash(int(i) // banks, int(i) % banks, int(count[i])) for i in np.flatnonzero(count > 1)
    ]


def find_clashes(
    pattern: Pattern, banks: int | None = None, bank_map: BankMap | None = None
) -> list[Clash]:
    """List the clashes of reading a pattern's edges row by row, `banks` of them per cycle.

    A clash_free or cyclic pattern is read in the order of its schedule, any other in the order of
    its slots; banks and their map default to the pattern's own, else to `default_banks`, blocked.
    """
    banks, bank_map = _own_banks(pattern, banks, bank_map)
    if pattern.family in ("clash_free", "cyclic"):
        return clashes(access_schedule(pattern).left, pattern.columns, banks, bank_map)
    return clashes(pattern.indices, pattern.columns, banks, bank_map)


@dataclass(frozen=True)
class Balance:
    """How evenly edges are spread over banks of inputs and over contiguous ranges of outputs.

    `per_output` is the (fewest, most) edges of any output neuron from any bank, `per_input` those
    of any input neuron into any range of outputs.
    """

    banks: int
    ranges: int
    per_output: tuple[int, int]
    per_input: tuple[int, int]

    @property
    def exact(self) -> bool:
        """Whether all (output, bank) pairs, and all (input, range) pairs, have equal edges."""
        return self.per_output[0] == self.per_output[1] and self.per_input[0] == self.per_input[1]


def balance(
    pattern: Pattern,
    banks: int | None = None,
    ranges: int | None = None,
    bank_map: BankMap | None = None,
) -> Balance:
    """Report how evenly a pattern's edges are spread over `banks` and `ranges` of outputs.

    Banks and their map default as in `find_clashes`, ranges to `default_banks` of the transposed
    junction. Raises ValueError for counts that do not divide the blocks.
    """
    banks, bank_map = _own_banks(pattern, banks, bank_map)
    bo, bi = pattern.block
    if ranges is None:
        ranges = default_banks(pattern.rows, pattern.fan_out // bo, bo)
    _check_banks(pattern.columns, banks, "left blocks")
    _check_banks(pattern.rows, ranges, "right blocks")
    row, column = pattern.edge_rows.astype(np.int64), pattern.indices.astype(np.int64)
    bank = bank_of(column, pattern.columns, banks, bank_map)
    in_range = row // (pattern.rows // ranges)
    return Balance(
        banks,
        ranges,
        _extremes(row * banks + bank, pattern.rows * banks, bi),
        _extremes(column * ranges + in_range, pattern.columns * ranges, bo),
    )


def _extremes(cell: IntArray, cells: int, neurons: int) -> tuple[int, int]:
    count = np.bincount(cell, minlength=cells) * neurons
    return int(count.min()), int(count.max())


def _own_banks(
    pattern: Pattern, banks: int | None, bank_map: BankMap | None
) -> tuple[int, BankMap]:
    default = default_banks(pattern.columns, pattern.slots, pattern.block[1])
    return (
        pattern.options.get("banks", default) if banks is None else banks,
        pattern.options.get("bank_map", "blocked") if bank_map is None else bank_map,
    )


def _check_banks(blocks: int, parts: int, what: str) -> None:
    if parts < 1 or blocks % parts:
        raise ValueError(
            f"{blocks} {what} cannot be divided into {parts} equal parts; "
            f"choose a divisor of {blocks}"
        )

"""Families that read one left block from each of several banks per cycle: clash_free and cyclic.

| name    | meaning                                        | shape           |
|---------|------------------------------------------------|-----------------|
| banks   | left memories, one read each per cycle         |                 |
| depth   | words of a bank, columns / banks               |                 |
| sweep   | depth cycles, which read every left block once |                 |
| left    | left block read by each bank slot of a cycle   | [cycles, banks] |
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnc_sparse.patterns.feasible import Block, exact_slots
from dnc_sparse.patterns.interleave import BANK_MAPS, BankMap, Grid, IntArray, draw, read_order
from dnc_sparse.patterns.pattern import Pattern, recorded
from dnc_sparse.patterns.registry import family
from dnc_sparse.patterns.rng import Rng
from dnc_sparse.patterns.sizes import as_block

MIN_BANK_NEURONS = 32


@family
def clash_free(
    n_in: int,
    n_out: int,
    *,
    fan_in: int | None = None,
    fan_out: int | None = None,
    density: float | None = None,
    banks: int | None = None,
    kind: int = 1,
    dither: bool = False,
    bank_map: BankMap = "blocked",
    block: Block = 1,
    seed: int = 0,
) -> Pattern:
    """Draw a pattern with constant degrees in which no cycle reads a bank twice (arXiv 1812.01164).

    Give one of `fan_in`, `fan_out` and `density`, in neurons; the rule itself runs over blocks.
    Left block n lies in bank n // depth ("blocked") or n mod banks ("interleaved", the papers').
    `kind` 1 permutes the addresses of each bank in each sweep, 2 runs through them cyclically from
    a new seed per sweep, 3 from one seed; `dither` permutes the order of the banks as well.
    `banks` defaults to `default_banks`.

    Raises ValueError for a degree or density that cannot be constant on both sides, and for banks
    that do not divide the left blocks.
    """
    size = as_block(block)
    wishes = {"fan_in": fan_in, "fan_out": fan_out, "density": density}
    grid = _grid(n_in, n_out, size, banks, wishes)
    if kind not in (1, 2, 3):
        raise ValueError(f"kind must be 1, 2 or 3, got {kind}")
    if bank_map not in BANK_MAPS:
        raise ValueError(f"bank_map must be one of {', '.join(BANK_MAPS)}, got {bank_map!r}")
    left = read_order(*draw(grid, kind, dither, Rng(seed)), bank_map)
    sources = left.reshape(grid.rows, grid.slots)
    access = {"kind": kind, "dither": bool(dither), "bank_map": bank_map}
    return _recorded("clash_free", grid, size, sources, seed, **access)


@family
def cyclic(
    n_in: int,
    n_out: int,
    *,
    fan_in: int | None = None,
    fan_out: int | None = None,
    density: float | None = None,
    banks: int | None = None,
    block: Block = 1,
    seed: int = 0,
) -> Pattern:
    """Draw a clash-free pattern whose every source is arithmetic: see `CyclicRule.source`.

    Degrees, density and banks are as in `clash_free`, banks blocked; `banks` must also divide the
    slots of a row. A row reads runs of neighbouring inputs, which lowers the forward scatter.

    Raises ValueError as `clash_free`, and for banks that do not divide the slots.
    """
    size = as_block(block)
    wishes = {"fan_in": fan_in, "fan_out": fan_out, "density": density}
    grid = _grid(n_in, n_out, size, banks, wishes)
    if grid.slots % grid.banks:
        raise ValueError(
            f"{grid.slots} slots of a row cannot be spread over {grid.banks} banks; "
            f"choose a divisor of {gcd(grid.columns, grid.slots)}"
        )
    rows, places = np.arange(grid.rows)[:, None], np.arange(grid.slots)
    return _recorded("cyclic", grid, size, _draw_rule(grid, seed).source(rows, places), seed)


def default_banks(columns: int, slots: int, neurons_per_block: int = 1) -> int:
    """Return the largest number of banks that divides `columns` and `slots`, banks of 32 neurons.

    It divides both so that every output takes equally many inputs from every bank; it is 1 where
    no bank would keep `MIN_BANK_NEURONS`.
    """
    common = gcd(columns, slots)
    largest = columns * neurons_per_block // MIN_BANK_NEURONS
    return max((d for d in range(1, min(common, largest) + 1) if common % d == 0), default=1)


@dataclass(frozen=True)
class CyclicRule:
    """The arithmetic of a cyclic pattern: seeds affine in the bank, and in the sweep.

    Row r reads `width` cycles from each bank, from cycle r * width on. In sweep s, bank m starts at
    (slope + s * slope_step) * m + offset + s * offset_step, modulo `depth`. Both steps are 0 where
    a row straddles two sweeps, for equal sweeps can be joined without giving an edge twice.
    """

    banks: int
    depth: int
    width: int
    slope: int
    offset: int
    slope_step: int
    offset_step: int

    def address(self, cycle: IntArray, bank: IntArray) -> IntArray:
        """Return the address each bank reads in each cycle; shapes broadcast."""
        sweep = cycle // self.depth
        slope = self.slope + sweep * self.slope_step
        offset = self.offset + sweep * self.offset_step
        return (slope * bank + offset + cycle) % self.depth

    def source(self, row: IntArray, slot: IntArray) -> IntArray:
        """Return `Pattern.sources` at each row and slot; shapes broadcast."""
        bank, place = slot // self.width, slot % self.width
        start = self.address(row * self.width, bank)
        wrapped = np.maximum(start + self.width - self.depth, 0)
        address = np.where(place < wrapped, place, start + place - wrapped)
        return bank * self.depth + address


def cyclic_rule(pattern: Pattern) -> CyclicRule:
    """Return the arithmetic behind a cyclic pattern; ValueError for another family."""
    if pattern.family != "cyclic":
        raise ValueError(f"{pattern!r} is not cyclic; its sources are a table, not arithmetic")
    return _draw_rule(_grid_of(pattern), pattern.options["seed"])


@dataclass(frozen=True)
class AccessSchedule:
    """The order in which hardware with `banks` memories processes the edges of a pattern.

    `left` [cycles, banks] is the left block that each slot of each cycle reads, `weight`
    [cycles, banks] the flat slot (row * slots + slot) of the edge it processes.
    """

    left: NDArray[np.int32]
    weight: NDArray[np.int32]
    banks: int
    depth: int
    sweeps: int


def access_schedule(pattern: Pattern) -> AccessSchedule:
    """Return the hardware's order of a clash_free or cyclic pattern.

    Raises ValueError for a family that has none.
    """
    if pattern.family not in ("clash_free", "cyclic"):
        raise ValueError(
            f"{pattern!r} has no access schedule; only clash_free and cyclic patterns have one"
        )
    return pattern.plan("access_schedule", lambda: _schedule(pattern))


def _schedule(pattern: Pattern) -> AccessSchedule:
    grid, spec = _grid_of(pattern), pattern.options
    if spec["family"] == "cyclic":
        cycle = np.arange(grid.sweeps * grid.depth)[:, None]
        bank = np.arange(grid.banks)
        left = bank * grid.depth + _draw_rule(grid, spec["seed"]).address(cycle, bank)
    else:
        drawn = draw(grid, spec["kind"], spec["dither"], Rng(spec["seed"]))
        left = read_order(*drawn, spec["bank_map"])
    edges = left.reshape(grid.rows, grid.slots)
    slot = np.argsort(np.argsort(edges, axis=1), axis=1)
    weight = (slot + np.arange(grid.rows)[:, None] * grid.slots).reshape(left.shape)
    return AccessSchedule(_frozen(left), _frozen(weight), grid.banks, grid.depth, grid.sweeps)


def _frozen(table: IntArray) -> NDArray[np.int32]:
    result = table.astype(np.int32)
    result.setflags(write=False)
    return result


def _draw_rule(grid: Grid, seed: int) -> CyclicRule:
    depth = grid.depth
    slope, offset, slope_step, offset_step = (int(v) for v in Rng(seed).integers(depth, 4))
    # a step without common divisor gives min(depth, sweeps) different slopes
    while gcd(slope_step, depth) != 1:
        slope_step += 1
    if grid.columns % grid.slots:
        slope_step = offset_step = 0
    width = grid.slots // grid.banks
    return CyclicRule(grid.banks, depth, width, slope, offset, slope_step, offset_step)


def _grid(
    n_in: int,
    n_out: int,
    block: tuple[int, int],
    banks: int | None,
    wishes: dict[str, Any],
) -> Grid:
    slots = exact_slots(n_in, n_out, block, **wishes, constant_degrees=True)
    columns = n_in // block[1]
    if banks is None:
        banks = default_banks(columns, slots, block[1])
    if banks < 1 or columns % banks:
        divisors = [d for d in range(1, columns + 1) if columns % d == 0]
        near = [max((d for d in divisors if d < banks), default=1)]
        near += [d for d in divisors if d > banks][:1]
        raise ValueError(
            f"{columns} left blocks cannot be spread over {banks} banks; choose a divisor of "
            f"{columns}, such as {' or '.join(map(str, near))}"
        )
    return Grid(columns, n_out // block[0], slots, banks)


def _grid_of(pattern: Pattern) -> Grid:
    return Grid(pattern.columns, pattern.rows, pattern.slots, pattern.options["banks"])


def _recorded(
    name: str, grid: Grid, block: tuple[int, int], sources: IntArray, seed: int, **access: Any
) -> Pattern:
    n_in, n_out, fan_in = grid.columns * block[1], grid.rows * block[0], grid.slots * block[1]
    made = {"fan_in": fan_in, "banks": grid.banks, "seed": seed}
    return recorded(name, n_in, n_out, block, sources.astype(np.int32), **made, **access)

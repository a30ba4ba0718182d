"""Tiles of the Triton kernels: which fit a GPU, which to try first.

| name   | meaning                                                                      |
|--------|------------------------------------------------------------------------------|
| tokens | samples of a tile                                                            |
| width  | owned neurons of a tile, at most a block's                                   |
| depth  | gathered neurons of a tile                                                   |
| stages | tiles on their way to the chip at a time, as Triton counts them              |
| parts  | pieces the batch is cut into, where one program runs through a whole piece   |

Words are those of `dnc_sparse.kernels`; docs/gpu-kernels.md derives the preferences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch

from dnc_sparse.patterns import Pattern

Kernel = Literal["streamed", "resident", "fused", "separate"]
FunctionName = Literal["forward", "grad_input", "grad_weight", "backward"]

# shared memory a program may have, by compute capability (CUDA programming guide, table of
# technical specifications); others have at least the last
SHARED_BYTES = {
    (8, 0): 166_912,
    (8, 7): 166_912,
    (9, 0): 232_448,
    (10, 0): 232_448,
    (10, 3): 232_448,
}
LEAST_SHARED_BYTES = 101_376
# grad_y's columns of one program, above which a pass of torch's own adds up the bias's gradient
MOST_BIAS_COLUMNS = 64
# what 8 warps exchange to add those up, and barriers
OTHER_BYTES = 4 * 8 * MOST_BIAS_COLUMNS + 64
# part of a panel's power of two that its depth must fill
SNUG = 3 / 4
# a part has so many tiles of tokens at least
LEAST_TILES, MOST_PARTS = 4, 64
# sums of a program that leave registers for the rest at 8 warps, which hold operands as well where
# there are no matrix instructions that read shared memory
MOST_SUMS, MOST_SUMS_BEFORE_HOPPER = 2**15, 2**14


class Gpu(NamedTuple):
    """What the choice of tiles depends on."""

    capability: tuple[int, int]
    multiprocessors: int

    @property
    def shared_bytes(self) -> int:
        """Shared memory that one program may use."""
        return SHARED_BYTES.get(self.capability, LEAST_SHARED_BYTES)

    @property
    def sums(self) -> int:
        """Sums that one program may keep in registers."""
        return MOST_SUMS if self.capability[0] in (9, 10) else MOST_SUMS_BEFORE_HOPPER


class Side(NamedTuple):
    """A pattern as seen by a kernel that owns its rows, or its columns."""

    blocks: int
    own: int
    far: int
    degree: int

    @property
    def depth(self) -> int:
        """Gathered neurons of an owned block."""
        return self.degree * self.far


def side_of(pattern: Pattern, transposed: bool) -> Side:
    """Return the pattern's rows or, transposed, its columns."""
    bo, bi = pattern.block
    if transposed:
        return Side(pattern.columns, bi, bo, pattern.targets.shape[1])
    return Side(pattern.rows, bo, bi, pattern.slots)


@dataclass(frozen=True)
class Tile:
    """One way to run a function: its kernel, the kernel's sizes, and which blocks it owns."""

    kernel: Kernel
    tokens: int
    width: int
    depth: int
    warps: int = 8
    stages: int = 3
    parts: int = 1
    by_row: bool = False

    def __str__(self) -> str:
        sizes = f"{self.tokens}x{self.width}x{self.depth}"
        side = " by row" if self.by_row and self.kernel == "separate" else ""
        parts = f", {self.parts} parts" if self.parts > 1 else ""
        return f"{self.kernel}{side} {sizes}, {self.warps} warps, {self.stages} stages{parts}"

    def shared_bytes(self, item: int) -> int:
        """Return about the most shared memory Triton takes for it, with `item` bytes a number."""
        gathered, panel = self.tokens * self.depth, self.depth * self.width
        owned = self.tokens * self.width
        if self.kernel == "streamed":
            kept, moving = 0, gathered + panel
        elif self.kernel == "resident":
            kept, moving = panel + owned, gathered
        elif self.kernel == "fused":
            kept, moving = panel + owned, gathered + owned
        else:
            kept, moving = 0, gathered + owned
        return (kept + self.stages * moving) * item + OTHER_BYTES


def candidates(
    function: FunctionName,
    pattern: Pattern,
    dtype: torch.dtype,
    batch: int,
    gpu: Gpu,
    ieee: bool = False,
) -> tuple[Tile, ...]:
    """Return the tiles worth trying for a function of a pattern, the favourite first.

    `ieee` asks for float32 without tensor cores. `backward` has none where its panel and sums do
    not fit on chip; every other function has at least one.
    """
    by_row, by_column = (side_of(pattern, False), True), (side_of(pattern, True), False)
    if function == "grad_weight":
        # the deeper side gathers more beside each load of its owned tile
        sides = sorted([by_column, by_row], key=lambda side: -side[0].depth)
    else:
        sides = [by_row if function == "forward" else by_column]
    found = []
    for side, rows in sides:
        for proposed in _PROPOSALS[function](side, gpu, ieee):
            tile = _fitting(_cut(proposed, batch), dtype.itemsize, gpu.shared_bytes)
            if tile is not None:
                found.append(replace(tile, by_row=rows, parts=_parts(tile, side, batch, gpu)))
    # two stages leave a gap between loads, longer than the time that loading weights takes
    found.sort(key=lambda tile: tile.kernel == "resident" and tile.stages < 3)
    return tuple(dict.fromkeys(found))


def _products(side: Side, gpu: Gpu, ieee: bool) -> Iterator[Tile]:
    if ieee:
        yield Tile("streamed", 64, min(side.own, 64), min(32, _above(side.depth)), 4)
        yield Tile("streamed", 128, min(side.own, 64), min(32, _above(side.depth)), 8)
        return
    for width in _widths(side.own):
        if side.depth == _above(side.depth):
            yield Tile("resident", 128, width, side.depth, 8, 4)
            yield Tile("resident", 64, width, side.depth, 4, 4)
    width, whole = min(side.own, 128), _above(side.depth)
    # at least 16 bytes of weights for each of 256 threads
    yield Tile("streamed", 256, width, min(max(64, 2048 // width), whole), 8, 4)
    yield Tile("streamed", 128, width, min(64, whole), 4, 4)
    yield Tile("streamed", 128, width, min(128, whole), 8, 3)


def _fused(side: Side, gpu: Gpu, ieee: bool) -> Iterator[Tile]:
    depth = _above(side.depth)
    if ieee or side.depth < SNUG * depth:
        return
    for width in _widths(side.own):
        if depth * width <= gpu.sums:
            yield Tile("fused", 128, width, depth, 8, 3)
            yield Tile("fused", 64, width, depth, 8, 3)


def _separate(side: Side, gpu: Gpu, ieee: bool) -> Iterator[Tile]:
    width = min(side.own, 64 if ieee else 128)
    depth = min(_above(side.depth), 128 if ieee else gpu.sums // width, 256)
    yield Tile("separate", 16 if ieee else 64, width, depth, 8, 4)
    if not ieee:
        yield Tile("separate", 64, width, min(depth, 128), 4, 4)


_PROPOSALS = {
    "forward": _products,
    "grad_input": _products,
    "grad_weight": _separate,
    "backward": _fused,
}


def _widths(own: int) -> tuple[int, ...]:
    """Tiles of an owned block: all of it, or pieces that still fill a matrix instruction."""
    return tuple(width for width in (128, 64) if width < own) + ((own,) if own <= 64 else ())


def _above(size: int) -> int:
    """Return the power of two at or above a size that fills the depth of a matrix instruction."""
    return max(16, 1 << (size - 1).bit_length())


def _cut(tile: Tile, batch: int) -> Tile:
    """Return the tile without the tokens that a small batch lacks."""
    return replace(tile, tokens=min(tile.tokens, _above(batch)))


def _fitting(tile: Tile, item: int, shared_bytes: int) -> Tile | None:
    """Return the tile with as many stages as fit on chip; None below two."""
    for stages in range(tile.stages, 1, -1):
        fitting = replace(tile, stages=stages)
        if fitting.shared_bytes(item) <= shared_bytes:
            return fitting
    return None


def _parts(tile: Tile, side: Side, batch: int, gpu: Gpu) -> int:
    """Return into how many pieces to cut the batch so that the GPU's last round is a full one."""
    if tile.kernel == "streamed":
        return 1
    units = side.blocks * side.own // tile.width * -(-side.depth // tile.depth)
    most = max(1, min(MOST_PARTS, batch // (LEAST_TILES * tile.tokens)))

    def rounds(parts: int) -> float:
        # a part costs a load of its panel, or a copy of its sums
        return -(-units * parts // gpu.multiprocessors) / parts * (1 + 0.01 * parts)

    return min(range(1, most + 1), key=rounds)

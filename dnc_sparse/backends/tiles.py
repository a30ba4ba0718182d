"""Tiles of the Triton kernels: which fit a GPU, which to try first.

| name   | meaning                                                                      |
|--------|------------------------------------------------------------------------------|
| tokens | samples of a tile                                                            |
| width  | owned neurons of a tile, at most a block's                                   |
| depth  | gathered neurons of a tile                                                   |
| stages | tiles on their way to the chip at a time, as Triton counts them              |
| parts  | pieces the batch is cut into, where one program runs through a whole piece   |

Words are those of `dnc_sparse.kernels`; docs/gpu-triton.md derives the preferences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch

from dnc_sparse.patterns import Pattern
from dnc_sparse.patterns.banked import cyclic_rule

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
# what a part costs beside the rest, for its load of a panel or its copy of the sums
PART_COST = 0.05
# a part has so many tiles of tokens at least
LEAST_TILES, MOST_PARTS = 4, 64
# sums of a program that leave registers for the rest at 8 warps, which hold operands as well where
# there are no matrix instructions that read shared memory
MOST_SUMS, MOST_SUMS_BEFORE_HOPPER = 2**15, 2**14
# part of those beside which another program of 8 warps finds registers, or one of 4 warps
# registers to start many copies
FEW_SUMS = 1 / 4


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
        """Sums that 8 warps may keep in registers."""
        return MOST_SUMS if self.capability[0] in (9, 10) else MOST_SUMS_BEFORE_HOPPER


class Rule(NamedTuple):
    """What of a `CyclicRule` is compiled into a kernel; its seeds are arguments."""

    depth: int
    width: int


class Side(NamedTuple):
    """A pattern as seen by a kernel that owns its block rows or, transposed, its columns.

    A kernel is compiled for it, and reads fields only. Owned blocks are of `owned_width` neurons,
    whose weights lie `weight_stride` apart, gathered ones of `gathered_width`; `depth` is what an
    owned block gathers, degree * gathered_width. The table is `Pattern.sources` or, transposed,
    `Pattern.targets`, `full` where no entry is empty; a cyclic pattern has a `rule` in its place.
    """

    blocks: int
    owned_width: int
    weight_stride: int
    gathered_width: int
    slots: int
    degree: int
    depth: int
    transposed: bool
    full: bool
    rule: Rule | None


def side_of(pattern: Pattern, transposed: bool) -> Side:
    """Return the pattern's rows or, transposed, its columns."""
    bo, bi = pattern.block
    owned_width, gathered_width = (bi, bo) if transposed else (bo, bi)
    table = pattern.targets if transposed else pattern.sources
    rule = None
    if pattern.family == "cyclic":
        cyclic = cyclic_rule(pattern)
        rule = Rule(cyclic.depth, cyclic.width)
    degree = table.shape[1]
    return Side(
        blocks=table.shape[0],
        owned_width=owned_width,
        weight_stride=1 if transposed else gathered_width,
        gathered_width=gathered_width,
        slots=max(pattern.slots, 1),
        degree=degree,
        depth=degree * gathered_width,
        transposed=transposed,
        full=bool((table >= 0).all()),
        rule=rule,
    )


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

    @property
    def sums(self) -> int:
        """Sums that it keeps in registers."""
        return self.width * (self.tokens if self.kernel in ("streamed", "resident") else self.depth)

    @property
    def copied(self) -> int:
        """Numbers that a step copies onto the chip."""
        if self.kernel == "streamed":
            return self.depth * (self.tokens + self.width)
        return self.tokens * (self.depth + (0 if self.kernel == "resident" else self.width))

    def together(self, item: int, gpu: Gpu, ieee: bool) -> int:
        """Return how many of its programs run on a multiprocessor at a time, two at most."""
        # 2 x 128 threads may have all 255 registers each
        most = MOST_SUMS_BEFORE_HOPPER if ieee else gpu.sums
        few = self.warps <= 4 or self.sums <= FEW_SUMS * most
        # a multiprocessor has 1 KiB more than a program may take, and keeps 1 KiB for each
        bytes_of_two = 2 * self.shared_bytes(item, gpu) + 1024
        return 2 if few and bytes_of_two <= gpu.shared_bytes else 1

    def shared_bytes(self, item: int, gpu: Gpu) -> int:
        """Return the most shared memory that Triton takes for it, with `item` bytes a number."""
        kept = 0
        if self.kernel in ("resident", "fused"):
            # results change hands between threads, on Blackwell before they are rounded
            leaving = self.tokens * self.width * (4 if gpu.capability >= (10, 0) else item)
            kept = self.depth * self.width * item + leaving
        return kept + self.stages * self.copied * item + OTHER_BYTES


def fitting(
    function: FunctionName,
    pattern: Pattern,
    dtype: torch.dtype,
    batch: int,
    gpu: Gpu,
    ieee: bool = False,
) -> list[tuple[Tile, Side]]:
    """Return the proposed tiles that fit a GPU, with the side of the pattern that each is for.

    `ieee` asks for float32 without tensor cores. `backward` has none where its panel and sums do
    not fit on chip; every other function has at least one.
    """
    by_row, by_column = (side_of(pattern, transposed) for transposed in (False, True))
    sides = {"forward": (by_row,), "grad_weight": (by_column, by_row)}.get(function, (by_column,))
    fits = {}
    for side in sides:
        for proposed in _PROPOSALS[function](side, ieee):
            tile = _fitted(_cut(proposed, batch), dtype.itemsize, gpu)
            if tile is not None:
                slots = gpu.multiprocessors * tile.together(dtype.itemsize, gpu, ieee)
                parts = _parts(tile, side, batch, slots)
                fits[replace(tile, by_row=not side.transposed, parts=parts)] = side
    return list(fits.items())


def _products(side: Side, ieee: bool) -> Iterator[Tile]:
    width, whole = min(side.owned_width, 128), _above(side.depth)
    if ieee:
        yield Tile("streamed", 64, min(width, 64), min(32, whole), 4)
        yield Tile("streamed", 128, min(width, 64), min(32, whole), 8)
        return
    if side.depth == whole:
        yield from _on_chip("resident", side)
    if width <= 64:
        yield Tile("streamed", 512, width, min(64, whole), 8, 3)
    # at least 16 bytes of weights for each of 256 threads
    yield Tile("streamed", 256, width, min(max(64, 2048 // width), whole), 8, 4)
    yield Tile("streamed", 128, width, min(64 if width >= 64 else 128, whole), 8, 4)
    # it fits any GPU
    yield Tile("streamed", 64, min(width, 64), min(32, whole), 4, 3)


def _fused(side: Side, ieee: bool) -> Iterator[Tile]:
    if not ieee and side.depth >= SNUG * _above(side.depth):
        yield from _on_chip("fused", side)


def _on_chip(kernel: Kernel, side: Side) -> Iterator[Tile]:
    """Give tiles whose weights stay on chip: all of an owned block's, or of pieces of it.

    8 warps fill a multiprocessor, of 4 warps two programs may run while one finishes a tile.
    One side of a tile must have the 64 rows of a matrix instruction.
    """
    depth = _above(side.depth)
    widths = tuple(width for width in (128, 64) if width <= side.owned_width)
    for width in widths or (side.owned_width,):
        most = 64 if widths else 128
        yield Tile(kernel, most, width, depth, 8, 4)
        yield Tile(kernel, most // 2, width, depth, 8, 4)
        if kernel == "resident" or width * depth <= FEW_SUMS * MOST_SUMS:
            yield Tile(kernel, 64, width, depth, 4, 3)
        if widths:
            yield Tile(kernel, 32, width, depth, 4, 3)


def _separate(side: Side, ieee: bool) -> Iterator[Tile]:
    width = min(side.owned_width, 64 if ieee else 128)
    if ieee:
        yield Tile("separate", 16, width, min(_above(side.depth), 128), 8, 4)
        return
    for depth in (512, 256, 128):
        yield Tile("separate", 64, width, min(_above(side.depth), depth), 8, 4)
    # it fits any GPU
    yield Tile("separate", 32, min(width, 64), min(_above(side.depth), 64), 4, 3)


_PROPOSALS = {
    "forward": _products,
    "grad_input": _products,
    "grad_weight": _separate,
    "backward": _fused,
}


def _above(size: int) -> int:
    """Return the power of two at or above a size that fills the depth of a matrix instruction."""
    return max(16, 1 << (size - 1).bit_length())


def _cut(tile: Tile, batch: int) -> Tile:
    """Return the tile without the tokens that a small batch lacks."""
    return replace(tile, tokens=min(tile.tokens, _above(batch)))


def _fitted(tile: Tile, item: int, gpu: Gpu) -> Tile | None:
    """Return the tile with as many stages as fit on chip; None below two."""
    if tile.sums * 8 > gpu.sums * tile.warps:
        return None
    for stages in range(tile.stages, 1, -1):
        fitted = replace(tile, stages=stages)
        if fitted.shared_bytes(item, gpu) <= gpu.shared_bytes:
            return fitted
    return None


def units_of(tile: Tile, side: Side) -> int:
    """Return how many pieces a kernel cuts the owned blocks into, and the depth if it has to."""
    pieces = 1 if tile.kernel == "streamed" else -(-side.depth // tile.depth)
    return side.blocks * side.owned_width // tile.width * pieces


def _parts(tile: Tile, side: Side, batch: int, slots: int) -> int:
    """Return into how many pieces to cut the batch so that the last round of programs is full."""
    if tile.kernel == "streamed":
        return 1
    units = units_of(tile, side)
    most = max(1, min(MOST_PARTS, batch // (LEAST_TILES * tile.tokens)))

    def rounds(parts: int) -> float:
        return -(-units * parts // slots) / parts * (1 + PART_COST * parts)

    return min(range(1, most + 1), key=rounds)

"""How long a Triton kernel should take with a tile, to tell which tiles to try first.

Counts clock cycles of one multiprocessor of a Hopper GPU: bytes from L2, bytes that the matrix
instructions read from shared memory, multiplications, and what nothing overlaps. On other GPUs only
the order of tiles matters. docs/gpu-triton.md derives it; tests/sparse/triton_compiled.py compares
its matrix instructions with those of compiled kernels; no figure here is a measurement of ours.
"""

from __future__ import annotations

from typing import NamedTuple

from dnc_sparse.backends.tiles import Gpu, Side, Tile, units_of

# what dense kernels are known to draw at least, over 132 multiprocessors at 1.83 GHz; loads without
# arithmetic were measured at 12e12 and more
L2_BYTES_PER_SECOND = 7.8e12
MULTIPROCESSOR_HERTZ = 132 * 1.83e9
SHARED_BYTES_PER_CYCLE = 128
# of 2-byte numbers; half of it for TF32
MULTIPLICATIONS_PER_CYCLE = 2048
IEEE_MULTIPLICATIONS_PER_CYCLE = 128
# from a copy's start to its data, and to turn results before they are stored
LATENCY_CYCLES, FINISH_CYCLES = 900, 200
# of a thread, counted in machine code: to start a copy of 16 bytes, and to round and store a result
COPY_INSTRUCTIONS, RESULT_INSTRUCTIONS = 13, 3
# an instruction often waits for the one before it
CYCLES_PER_INSTRUCTION = 2


class Product(NamedTuple):
    """A matrix product of a step, [rows, inner] by [inner, columns], operands in shared memory."""

    rows: int
    columns: int
    inner: int
    warps: int

    @property
    def instruction_columns(self) -> int:
        """N of the m64nN instructions that Triton compiles it to for Hopper.

        A warpgroup of 4 warps takes 64 rows; those which find no rows share the columns.
        """
        groups_per_rows = max(1, self.warps * 16 // max(self.rows, 64))
        return max(8, min(256, self.columns // groups_per_rows))

    @property
    def instructions(self) -> int:
        """Of 64 rows each, for a depth of one; below 64 rows they are others, no faster."""
        return max(self.rows // 64, 1) * -(-self.columns // self.instruction_columns)

    def multiplying(self, item: int, ieee: bool) -> float:
        """Return the cycles of its multiplications, `ieee` without tensor cores."""
        if ieee:
            return self.rows * self.columns * self.inner / IEEE_MULTIPLICATIONS_PER_CYCLE
        numbers = self.instructions * 64 * self.instruction_columns * self.inner
        return numbers * item / 2 / MULTIPLICATIONS_PER_CYCLE

    def reading(self, item: int, ieee: bool) -> float:
        """Return the cycles of reading shared memory: each instruction reads its operands again."""
        numbers = self.instructions * (64 + self.instruction_columns) * self.inner
        return 0 if ieee else numbers * item / SHARED_BYTES_PER_CYCLE


def products(tile: Tile) -> tuple[Product, ...]:
    """Return the products of one step of a tile's kernel, in its order."""
    tokens, width, depth, warps = tile.tokens, tile.width, tile.depth, tile.warps
    # the side with 64 or more comes first (`kernels.product.multiply`)
    rows, columns = (width, tokens) if tokens < 64 <= width else (tokens, width)
    onto_owned = Product(rows, columns, depth, warps)
    onto_weights = Product(depth, width, tokens, warps)
    if tile.kernel == "fused":
        return onto_weights, onto_owned
    return (onto_weights,) if tile.kernel == "separate" else (onto_owned,)


def cycles(
    tile: Tile,
    side: Side,
    item: int,
    batch: int,
    gpu: Gpu,
    ieee: bool,
    l2_bytes_per_second: float = L2_BYTES_PER_SECOND,
) -> float:
    """Return the cycles of a launch over `batch` samples with `item` bytes a number."""
    tokens, width, depth, threads = tile.tokens, tile.width, tile.depth, 32 * tile.warps

    def from_l2(size: int) -> float:
        return size / (l2_bytes_per_second / MULTIPROCESSOR_HERTZ)

    all_tokens, programs = -(-batch // tokens), units_of(tile, side) * tile.parts
    if tile.kernel == "streamed":
        programs *= all_tokens
    together = max(1, min(tile.together(item, gpu, ieee), -(-programs // gpu.multiprocessors)))
    copied = tile.copied * item
    multiplying, reading = (
        [cost(product, item, ieee) for product in products(tile)]
        for cost in (Product.multiplying, Product.reading)
    )
    # a multiprocessor has one of each of these, which the programs on it share
    from_shared = sum(reading) + copied / SHARED_BYTES_PER_CYCLE
    busy = max(from_l2(copied), sum(multiplying), from_shared)
    copies, results = copied / 16 / threads, tokens * width / threads
    start = copies * COPY_INSTRUCTIONS * CYCLES_PER_INSTRUCTION
    finish = FINISH_CYCLES + results * RESULT_INSTRUCTIONS * CYCLES_PER_INSTRUCTION
    if tile.kernel == "streamed":
        ends = (LATENCY_CYCLES + finish) / together
        # a round begins as soon as any program of the last has ended
        rounds = max(together, programs / gpu.multiprocessors)
        return rounds * (side.depth / depth * max(busy, start) + ends)
    if tile.kernel == "separate":
        step = max(busy, start)
    else:
        # results leave, and copies start, only after the products: another program may run then
        alone = sum(map(max, multiplying, reading)) + finish + start
        if tile.stages < 3:
            alone += from_l2(copied) + LATENCY_CYCLES
        step = max(busy, alone / together)
    rounds = -(-programs // (gpu.multiprocessors * together)) * together
    ends = (LATENCY_CYCLES + from_l2(depth * width * item)) / together
    return rounds * (all_tokens / tile.parts * step + ends)

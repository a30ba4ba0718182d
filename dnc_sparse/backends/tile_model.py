"""How long a Triton kernel should take with a tile, to tell which tiles to try first.

Counts clock cycles of one multiprocessor of a Hopper GPU: bytes from L2, bytes that the matrix
instructions read from shared memory, multiplications, and what nothing overlaps. On other GPUs only
the order of tiles matters. docs/gpu-triton.md derives it; no figure here is a measurement of ours.
"""

from __future__ import annotations

from dnc_sparse.backends.tiles import Gpu, Side, Tile, units_of

# 7.8 TB/s over 132 multiprocessors at 1.83 GHz, what dense kernels are known to draw at least
L2_BYTES_PER_CYCLE = 32.3
SHARED_BYTES_PER_CYCLE = 128
# of 2-byte numbers; half of it for TF32
MULTIPLICATIONS_PER_CYCLE = 2048
IEEE_MULTIPLICATIONS_PER_CYCLE = 128
# from a copy's start to its data, and to turn, round and store a tile's results
LATENCY_CYCLES, FINISH_CYCLES = 900, 200


def cycles(tile: Tile, side: Side, item: int, batch: int, gpu: Gpu, ieee: bool) -> float:
    """Return the cycles of a launch over `batch` samples with `item` bytes a number."""
    tokens, width, depth = tile.tokens, tile.width, tile.depth
    units, all_tokens = units_of(tile, side), -(-batch // tokens)

    def product(rows: int, columns: int, inner: int) -> float:
        """Cycles of a matrix product whose two operands lie in shared memory."""
        if ieee:
            return rows * columns * inner / IEEE_MULTIPLICATIONS_PER_CYCLE
        # each 64 rows read the other operand again
        rows = max(rows, 64)
        read = rows // 64 * (64 + columns) * inner * item
        math = rows * columns * inner * item / (2 * MULTIPLICATIONS_PER_CYCLE)
        return max(math, read / SHARED_BYTES_PER_CYCLE)

    def from_l2(numbers: int) -> float:
        return numbers * item / L2_BYTES_PER_CYCLE

    # the side with 64 or more comes first (`kernels.product.multiply`)
    onto_owned = (
        product(width, tokens, depth) if tokens < 64 <= width else product(tokens, width, depth)
    )
    onto_weights = product(depth, width, tokens)
    loads = from_l2(tokens * (depth + (0 if tile.kernel == "resident" else width)))
    alone = tile.stages < 3
    if tile.kernel == "streamed":
        step = max(from_l2(depth * (tokens + width)), onto_owned)
        programs = max(1, min(2, gpu.shared_bytes // tile.shared_bytes(item, gpu)))
        each = side.depth / depth * step + (LATENCY_CYCLES + FINISH_CYCLES) / programs
        return units * all_tokens / gpu.multiprocessors * each
    if tile.kernel == "separate":
        step = max(loads, onto_weights)
    elif tile.kernel == "resident":
        work = onto_owned + FINISH_CYCLES
        step = loads + LATENCY_CYCLES + work if alone else max(loads, work)
    else:
        first = onto_owned + FINISH_CYCLES
        # the last product of a tile runs on while copies start
        late = first + max(loads + LATENCY_CYCLES, onto_weights)
        step = late if alone else max(loads, first + onto_weights)
    rounds = -(-units * tile.parts // gpu.multiprocessors)
    return rounds * (all_tokens / tile.parts * step + LATENCY_CYCLES + from_l2(depth * width))

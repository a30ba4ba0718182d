"""What the block kernels should reach on an H200: `python -m dnc_sparse.bench.block_predictions`.

Prints the first columns of the table of docs/gpu-blocks.md, by arithmetic: per stage of a kernel's
ring, clocks of the tensor cores, of shared memory and of the way from L2;
the slowest binds. Results leave while the next products run, so they cost shared memory and no
time of their own. Device memory binds a launch as a whole. Nothing here is a measurement of ours.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from dnc_sparse.backends.tile_model import MULTIPLICATIONS_PER_CYCLE, SHARED_BYTES_PER_CYCLE
from dnc_sparse.bench.triton_predictions import (
    BATCH,
    CLOCK_HERTZ,
    DENSE_FLOP_PER_SECOND,
    DTYPE,
    H200,
    L2_BYTES_PER_SECOND,
    MEMORY_BYTES_PER_SECOND,
    NEURONS,
)

MULTIPROCESSORS = H200.multiprocessors
ITEM = DTYPE.itemsize
PANEL = 256


@dataclass(frozen=True)
class Stage:
    """What a stage of a ring costs: multiply-adds, and bytes of shared memory and from L2."""

    multiply_adds: float
    read: float  # from shared memory, by the tensor cores and the copy engine
    copied: float  # into shared memory
    from_l2: float

    def clocks(self, l2_rate: float) -> float:
        return max(
            self.multiply_adds / MULTIPLICATIONS_PER_CYCLE,
            (self.read + self.copied) / SHARED_BYTES_PER_CYCLE,
            self.from_l2 / (l2_rate / MULTIPROCESSORS / CLOCK_HERTZ),
        )


def products(count: int, columns: int) -> float:
    """Bytes that products of 64 x 16 by 16 x columns read."""
    return count * (64 + columns) * 16 * ITEM


def rounds(units: int, at_once: int = MULTIPROCESSORS) -> int:
    return -(-units // at_once)


def multiply(block: int, terms: int, l2_rate: float) -> float:
    """Seconds of the forward product, or grad_x by itself."""
    chunks, outputs, panels = terms * block // 64, NEURONS // block, BATCH // PANEL
    inputs, weights = PANEL * 64 * ITEM, block * 64 * ITEM
    stages, staging = 3, 2 * 128 * 64 * ITEM
    resident = stages * inputs + staging + 2048 + chunks * weights <= H200.shared_bytes
    resident &= MULTIPROCESSORS // outputs * outputs >= MULTIPROCESSORS * 7 / 8
    streamed = 0 if resident else weights
    # results go to shared memory and out of it
    leaving = 2 * PANEL * block * ITEM / chunks
    stage = Stage(
        multiply_adds=PANEL * 64 * block,
        read=products(2 * block // 64 * 4, 128) + leaving,
        copied=inputs + streamed,
        from_l2=inputs + streamed / 2,
    )
    count = rounds(outputs * panels) if resident else rounds(outputs * panels // 2, 66)
    moved = 2 * NEURONS * BATCH * ITEM + NEURONS * terms * block * ITEM
    return max(
        count * chunks * stage.clocks(l2_rate) / CLOCK_HERTZ, moved / MEMORY_BYTES_PER_SECOND
    )


def gradients(block: int, terms: int, l2_rate: float) -> float:
    """Seconds of all gradients."""
    most = 2 if block == 128 else 8
    fused, targets = terms <= most, min(terms, most)
    groups, samples = -(-terms // most), 64 if block == 128 else 128
    columns, panel = NEURONS // block, samples * block * ITEM
    pairs = targets // 2
    weight_products = 2 * pairs * samples // 16 * block // 64
    input_products = 2 * pairs * (samples // 64) * (2 * block // 16) // (2 if block == 64 else 1)
    read = products(weight_products, block)
    multiply_adds = targets * samples * block * block
    if fused:
        read += products(input_products, 64) + 2 * panel
        multiply_adds *= 2
    copied = (1 + targets) * panel
    stage = Stage(multiply_adds, read, copied, copied)
    panels, units = BATCH // samples, columns * groups
    # filling the pipeline and writing sums costs a unit about four panels
    splits = min(
        range(1, MULTIPROCESSORS + 1), key=lambda s: rounds(units * s) * (rounds(panels, s) + 4)
    )
    clocks = rounds(units * splits) * (rounds(panels, splits) + 4) * stage.clocks(l2_rate)
    weights = NEURONS * terms * block
    moved = (2 + fused) * NEURONS * BATCH * ITEM
    seconds = max(clocks / CLOCK_HERTZ, moved / MEMORY_BYTES_PER_SECOND)
    # sums of the parts, written and added up
    seconds += 2 * splits * weights * 4 / MEMORY_BYTES_PER_SECOND
    return seconds if fused else seconds + multiply(block, terms, l2_rate)


def rows() -> Iterator[str]:
    """Give the table's lines, without its head."""
    dense = 2 * NEURONS * NEURONS * BATCH / DENSE_FLOP_PER_SECOND
    for block in (128, 64):
        for share in (2, 4, 8, 16):
            terms = NEURONS // block // share
            cells = []
            for rate in L2_BYTES_PER_SECOND:
                forward, backward = multiply(block, terms, rate), gradients(block, terms, rate)
                used = dense / share / forward, 2 * dense / share / backward
                cells.append((*used, 3 * dense / (forward + backward)))
            low, high = cells
            parts = [f"{a:.2f} / {b:.2f}" for a, b in zip(low[:2], high[:2], strict=True)]
            yield f"| {block} | 1/{share} | {' | '.join(parts)} | {low[2]:.1f} / {high[2]:.1f} |"


if __name__ == "__main__":
    head = ["| b | density | forward e | gradients e | step over dense |", "|---|---|---|---|---|"]
    sys.stdout.write("\n".join([*head, *rows()]) + "\n")

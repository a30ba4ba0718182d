"""What the block kernels should reach on an H200, by arithmetic: the table of docs/gpu-blocks.md.

    python bench/block_model.py

Per stage of a kernel's ring, clocks of the tensor cores, of shared memory and of the way from L2;
the slowest binds. Results leave while the next products run, so they cost shared memory and no
time of their own. Device memory binds a launch as a whole. Nothing here is a measurement of ours.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

CLOCK, MULTIPROCESSORS = 1.83e9, 132
MULTIPLY_ADDS, SHARED_BYTES = 2048, 128  # a clock and multiprocessor
# from L2 to all multiprocessors: what dense kernels draw at least, what copies alone were seen at
L2_RATES = (7.8e12, 12e12)
MEMORY_BYTES = 0.85 * 4.3e12  # a second
DENSE_FLOPS = 790e12  # a second, measured elsewhere
N, SAMPLES, ITEM = 4096, 16384, 2
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
            self.multiply_adds / MULTIPLY_ADDS,
            (self.read + self.copied) / SHARED_BYTES,
            self.from_l2 / (l2_rate / MULTIPROCESSORS / CLOCK),
        )


def products(count: int, columns: int) -> float:
    """Bytes that products of 64 x 16 by 16 x columns read."""
    return count * (64 + columns) * 16 * ITEM


def rounds(units: int, at_once: int = MULTIPROCESSORS) -> int:
    return -(-units // at_once)


def multiply(block: int, terms: int, l2_rate: float) -> float:
    """Seconds of the forward product, or grad_x by itself."""
    chunks, outputs, panels = terms * block // 64, N // block, SAMPLES // PANEL
    inputs, weights = PANEL * 64 * ITEM, block * 64 * ITEM
    stages, staging = 3, 2 * 128 * 64 * ITEM
    resident = stages * inputs + staging + 2048 + chunks * weights <= 232448
    resident &= MULTIPROCESSORS // outputs * outputs >= MULTIPROCESSORS * 7 / 8
    kept = 0 if resident else weights
    # results go to shared memory and out of it
    leaving = 2 * PANEL * block * ITEM / chunks
    stage = Stage(
        multiply_adds=PANEL * 64 * block,
        read=products(2 * block // 64 * 4, 128) + leaving,
        copied=inputs + kept,
        from_l2=inputs + kept / 2,
    )
    count = rounds(outputs * panels) if resident else rounds(outputs * panels // 2, 66)
    moved = 2 * N * SAMPLES * ITEM + N * terms * block * ITEM
    return max(count * chunks * stage.clocks(l2_rate) / CLOCK, moved / MEMORY_BYTES)


def gradients(block: int, terms: int, l2_rate: float) -> float:
    """Seconds of all gradients."""
    most = 2 if block == 128 else 8
    fused, targets = terms <= most, min(terms, most)
    groups, samples = -(-terms // most), 64 if block == 128 else 128
    columns, panel = N // block, samples * block * ITEM
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
    panels, units = SAMPLES // samples, columns * groups
    # filling the pipeline and writing sums costs a unit about four panels
    splits = min(
        range(1, MULTIPROCESSORS + 1), key=lambda s: rounds(units * s) * (rounds(panels, s) + 4)
    )
    clocks = rounds(units * splits) * (rounds(panels, splits) + 4) * stage.clocks(l2_rate)
    weights = N * terms * block
    moved = (2 + fused) * N * SAMPLES * ITEM
    seconds = max(clocks / CLOCK, moved / MEMORY_BYTES)
    # sums of the parts, written and added up
    seconds += 2 * splits * weights * 4 / MEMORY_BYTES
    return seconds if fused else seconds + multiply(block, terms, l2_rate)


def rows() -> Iterator[str]:
    dense = 2 * N * N * SAMPLES / DENSE_FLOPS
    for block in (128, 64):
        for share in (2, 4, 8, 16):
            terms = N // block // share
            cells = []
            for rate in L2_RATES:
                forward, backward = multiply(block, terms, rate), gradients(block, terms, rate)
                used = dense / share / forward, 2 * dense / share / backward
                cells.append((*used, 3 * dense / (forward + backward)))
            low, high = cells
            parts = [f"{a:.2f} / {b:.2f}" for a, b in zip(low[:2], high[:2], strict=True)]
            yield f"| {block} | 1/{share} | {' | '.join(parts)} | {low[2]:.1f} / {high[2]:.1f} |"


if __name__ == "__main__":
    head = ["| b | density | forward e | gradients e | step over dense |", "|---|---|---|---|---|"]
    sys.stdout.write("\n".join([*head, *rows()]) + "\n")

"""What the Triton kernels should reach on an H200: `python -m dnc_sparse.bench.triton_predictions`.

Prints the table of docs/gpu-triton.md, from `tile_model.cycles`. A junction is 4096 -> 4096 with
16,384 samples in bfloat16, clash-free; dense arithmetic is cuBLAS at the 790 TFLOP/s that others
measured, which no kernel is taken to exceed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch

from dnc_sparse.backends.tile_model import cycles
from dnc_sparse.backends.tiles import FunctionName, Gpu, Tile, fitting
from dnc_sparse.bench.gpu_suite import STEP_GOALS
from dnc_sparse.patterns import Pattern, clash_free

NEURONS, BATCH, DTYPE = 4096, 16384, torch.bfloat16
H200 = Gpu((9, 0), 132)
CLOCK_HERTZ = 1.83e9
DENSE_FLOP_PER_SECOND = 790e12
# 85 % of the data sheet's
MEMORY_BYTES_PER_SECOND = 0.85 * 4.3e12
# least that dense kernels are known to draw, and what loads without arithmetic were measured at
L2_BYTES_PER_SECOND = (7.8e12, 12e12)
HEADER = (
    "| block | density | forward, 7.8 TB/s | backward | step "
    "| forward, 12 TB/s | backward | step | goal |\n" + "|---" * 9 + "|"
)


class Prediction(NamedTuple):
    """A function's tiles, one for each launch, and its time."""

    tiles: tuple[Tile, ...]
    seconds: float
    flop: float

    def __str__(self) -> str:
        sizes = " and ".join(
            f"{tile.kernel} {tile.tokens}x{tile.width}x{tile.depth}w{tile.warps}"
            for tile in self.tiles
        )
        return f"{sizes}, {self.efficiency:.2f}"

    @property
    def efficiency(self) -> float:
        """Useful arithmetic over that of cuBLAS in the same time."""
        return self.flop / self.seconds / DENSE_FLOP_PER_SECOND


def predict(function: FunctionName, pattern: Pattern, l2_bytes_per_second: float) -> Prediction:
    """Return a function's fastest way; `backward` may be grad_input, then grad_weight."""
    flop = 2.0 * BATCH * pattern.n_edges * (2 if function == "backward" else 1)
    item = DTYPE.itemsize
    ways = [
        Prediction(
            (tile,),
            cycles(tile, side, item, BATCH, H200, False, l2_bytes_per_second) / CLOCK_HERTZ,
            flop,
        )
        for tile, side in fitting(function, pattern, DTYPE, BATCH, H200)
    ]
    if function == "backward":
        first = predict("grad_input", pattern, l2_bytes_per_second)
        second = predict("grad_weight", pattern, l2_bytes_per_second)
        ways.append(Prediction(first.tiles + second.tiles, first.seconds + second.seconds, flop))
    best = min(ways, key=lambda way: way.seconds)
    return best._replace(seconds=max(best.seconds, flop / DENSE_FLOP_PER_SECOND))


def step_over_dense(forward: Prediction, backward: Prediction) -> float:
    """Return how much faster than dense a training step is, device memory counted as well."""
    activations = BATCH * NEURONS * DTYPE.itemsize / MEMORY_BYTES_PER_SECOND
    seconds = max(forward.seconds, 2 * activations)
    # grad_y is read again where there are two launches
    seconds += max(backward.seconds, (2 + len(backward.tiles)) * activations)
    return 3 * 2 * BATCH * NEURONS**2 / DENSE_FLOP_PER_SECOND / seconds


def rows() -> Iterator[str]:
    """Give the table's lines."""
    yield from HEADER.splitlines()
    for block, goals in STEP_GOALS.items():
        for inverse, goal in goals.items():
            pattern = clash_free(NEURONS, NEURONS, density=1 / inverse, block=block, seed=1)
            cells = [str(block), f"1/{inverse}"]
            for rate in L2_BYTES_PER_SECOND:
                forward, backward = (predict(f, pattern, rate) for f in ("forward", "backward"))
                step = step_over_dense(forward, backward)
                cells += [str(forward), str(backward), f"{step:.1f}"]
            yield f"| {' | '.join([*cells, f'{goal:g}'])} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join([*rows(), ""]))

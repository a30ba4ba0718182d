"""The planner's grid: shapes, densities, batches, dtypes and blocks, nowhere far behind dense."""

from __future__ import annotations

from itertools import product

from dnc_sparse.bench.measures import Goal, Measure, Run, Setting

SHAPES = ((784, 1024), (1024, 1024), (2048, 2048), (256, 256), (1024, 128))
DENSITIES = (1 / 2, 1 / 8, 1 / 32)
BATCHES = (16, 128, 1024)
BLOCKS = (1, 8)
DTYPES = ("float32", "bfloat16")
LIMIT = Goal("<=", 1.05)


def cell(setting: Setting, operation: str) -> Measure:
    """Return the measure of the sparse layer's time over that of `nn.Linear` in the same dtype."""
    ours, theirs = (Run(candidate, operation, setting) for candidate in ("sparse", "linear"))
    return Measure(f"planner grid, {operation} / dense", str(setting), ours, theirs, LIMIT)


# neighbours share their layers and inputs
PLANNER_SUITE: tuple[Measure, ...] = tuple(
    cell(Setting(*sides, batch, density, block, dtype), operation)
    for sides, density, block, dtype, batch in product(SHAPES, DENSITIES, BLOCKS, DTYPES, BATCHES)
    for operation in ("forward", "step")
)

"""The measures of the CPU kernels, row by row, with their goals.

`BASE` (1024 -> 1024, batch 256, density 1/8, 1x1, float32) is the junction unless a row says else.
"""

from __future__ import annotations

from dataclasses import replace

from dnc_sparse.bench.measures import BASE, Goal, Measure, Run, Setting

STEP_LIMITS = {2: 0.42, 4: 0.24, 8: 0.13, 16: 0.085, 32: 0.06, 64: 0.05}
PEER_LIMITS = {2: 4, 4: 4, 8: 4, 16: 3, 32: 3, 64: 3}
# of forward / oneDNN forward, and of step / 3 oneDNN forwards
BLOCK_LIMITS = {4: (0.16, 0.20), 8: (0.125, 0.15), 16: (0.125, 0.15)}
BFLOAT16_LIMITS = {("forward", 1): 0.28, ("grad_weight", 1): 0.20, ("forward", 4): 0.16}
SINGLE_LIMITS = {1024: 5, 4096: 15}
SHAPES = ((784, 1024), (1024, 10), (2048, 2048), (4096, 4096))

FASTER = Goal("<", 1)
NOT_SLOWER = Goal("<=", 1)
FASTER_PEER = Goal(">=", 1)


def at_most(limit: float) -> Goal:
    """Return the goal of a ratio to something slower."""
    return Goal("<=", limit)


def at_least(limit: float) -> Goal:
    """Return the goal of a speed-up."""
    return Goal(">=", limit)


def over(
    candidate: str, row: str, detail: str, operation: str, goal: Goal, setting: Setting = BASE
) -> Measure:
    """Return the measure of the sparse layer's time over a candidate's."""
    ours, theirs = Run("sparse", operation, setting), Run(candidate, operation, setting)
    return Measure(row, detail, ours, theirs, goal)


def speed_up(
    candidate: str, row: str, detail: str, operation: str, goal: Goal, setting: Setting = BASE
) -> Measure:
    """Return the measure of a candidate's time over the sparse layer's."""
    measure = over(candidate, row, detail, operation, goal, setting)
    return replace(measure, run=measure.against, against=measure.run)


def block_step(side: int, limit: float) -> Measure:
    """Return the measure of a step in blocks over three of oneDNN's dense forward passes."""
    row, setting = "blocks, step / 3 oneDNN forwards", replace(BASE, block=side)
    measure = over("onednn", row, f"{side}x{side}", "step", at_most(limit), setting)
    return replace(measure, against=Run("onednn", "forward", setting), factor=1 / 3)


def scaling(operation: str) -> Measure:
    """Return the measure of the sparse layer's time with one thread over that with two."""
    one, two = (Run("sparse", operation, BASE, threads) for threads in (1, 2))
    return Measure("one thread / two threads", operation, one, two, at_least(1.8))


def ragged(operation: str) -> Measure:
    """Return the measure of a sample's time in a batch of 250 over that in one of 256."""
    odd, even = (Run("sparse", operation, replace(BASE, batch=batch)) for batch in (250, 256))
    row = "batch 250 / batch 256, per sample"
    return Measure(row, operation, odd, even, at_most(1.05), factor=256 / 250)


CPU_SUITE: tuple[Measure, ...] = (
    over("linear", "forward / dense", "1/8", "forward", at_most(0.12)),
    replace(over("linear", "forward / dense", "1/8, hot", "forward", at_most(0.10)), hot=True),
    *(
        over("linear", "step / dense", f"1/{n}", "step", at_most(limit), Setting(density=1 / n))
        for n, limit in STEP_LIMITS.items()
    ),
    *(
        over(
            *("onednn", "operation / oneDNN dense", f"{operation}, 1/2", operation),
            *(FASTER, Setting(density=1 / 2)),
        )
        for operation in ("forward", "grad_input", "grad_weight")
    ),
    *(
        speed_up(
            *(peer, f"{name} step / step", f"1/{n}", "step"),
            *(at_least(limit), Setting(density=1 / n)),
        )
        for peer, name in (("sparseprop", "SparseProp"), ("csr", "torch CSR"))
        for n, limit in PEER_LIMITS.items()
    ),
    *(
        speed_up(
            *("sparselab", "SparseLab step / step", f"1/{n}", "step"),
            *(FASTER_PEER, Setting(density=1 / n)),
        )
        for n in (2, 8, 32)
    ),
    *(
        over(
            *("onednn", "blocks, forward / oneDNN dense", f"{side}x{side}", "forward"),
            *(at_most(limit), Setting(block=side)),
        )
        for side, (limit, _) in BLOCK_LIMITS.items()
    ),
    *(block_step(side, limit) for side, (_, limit) in BLOCK_LIMITS.items()),
    *(
        over(
            *("linear", "bfloat16 / bfloat16 dense", f"{operation}, {side}x{side}", operation),
            *(at_most(limit), Setting(block=side, dtype="bfloat16")),
        )
        for (operation, side), limit in BFLOAT16_LIMITS.items()
    ),
    *(
        speed_up(
            *("linear", "batch 1, dense / forward", f"{n} -> {n}", "forward"),
            *(at_least(limit), Setting(n_in=n, n_out=n, batch=1)),
        )
        for n, limit in SINGLE_LIMITS.items()
    ),
    *(scaling(operation) for operation in ("forward", "step")),
    *(ragged(operation) for operation in ("forward", "step")),
    *(
        over("linear", "batch 17 / dense", operation, operation, FASTER, Setting(batch=17))
        for operation in ("forward", "step")
    ),
    *(
        over(
            *("linear", "shapes / dense", f"{operation}, {setting}", operation),
            *(NOT_SLOWER, setting),
        )
        for setting in (
            Setting(*sides, batch=batch, density=1 / n)
            for sides in SHAPES
            for batch in (128, 1024)
            for n in (2, 8)
        )
        for operation in ("forward", "step")
    ),
    over(
        *("linear", "small layer, step / dense", "64 -> 64, batch 32", "step"),
        *(at_most(1.3), Setting(64, 64, 32)),
    ),
)

DENSITIES = tuple(1 / n for n in STEP_LIMITS)

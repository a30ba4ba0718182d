"""The measures of the GPU kernels, row by row, with their goals.

bfloat16, 4096 -> 4096, 16,384 samples, clash-free blocks, through `SparseLinear`, unless a row says
else; dense is `nn.Linear` in the same dtype. The goals are those of docs/gpu-kernels.md. Our
own measures come first, then those of other packages, which may break the device.
"""

from __future__ import annotations

from dataclasses import replace

from dnc_sparse.bench.cpu_suite import NOT_SLOWER, at_least, over, speed_up
from dnc_sparse.bench.measures import Measure, Setting

JUNCTION = Setting(4096, 4096, 16384, 1 / 8, 128, "bfloat16", device="cuda")
# speed-up of a training step by block side and 1 / density
STEP_GOALS = {
    128: {2: 1.6, 4: 3.2, 8: 6.4, 16: 8.0},
    64: {2: 1.3, 4: 2.7, 8: 5.4, 16: 8.0},
    32: {2: 0.8, 4: 1.6, 8: 3.2, 16: 5.0},
    16: {2: 0.4, 4: 0.8, 8: 1.6, 16: 3.0},
}
ELEMENT_GOALS = {4: 1.0, 16: 3.0}
SMALL_BATCHES = (1, 4, 16)
# who is compared with at which block sides, and at which 1 / density
PEERS = {"stk": (128,), "blksprs": (64, 32), "bsr": (128, 64, 32), "masked": (128, 64, 32)}
PEERS |= {"gather-bmm": (128, 64, 32), "two-four": (128, 64)}
PEER_DENSITIES = (2, 8)
ELEMENTS = replace(JUNCTION, block=1, dtype="float32", batch=4096)


def against_peers(setting: Setting) -> tuple[Measure, ...]:
    """Return the measures of a setting's peers; 2:4 is density 1/2 and has no training step."""
    n = round(1 / setting.density)
    return tuple(
        speed_up(
            *(peer, f"{peer} / ours, {operation}, block {setting.block}", f"1/{n}", operation),
            *(at_least(1), setting),
        )
        for peer, sides in PEERS.items()
        for operation in ("step", "forward")
        if setting.block in sides
        and n in PEER_DENSITIES
        and (peer != "two-four" or (n, operation) == (2, "forward"))
    )


def block_of(side: int, n: int) -> Setting:
    """Return the junction with blocks of a side at density 1/n."""
    return replace(JUNCTION, block=side, density=1 / n)


BLOCKS_TITLE = (
    f"{JUNCTION.n_in} -> {JUNCTION.n_out}, {JUNCTION.batch} samples, {JUNCTION.dtype}: "
    f"nn.Linear's time over SparseLinear's"
)
# step and forward of neighbours share layers and inputs
BLOCKS: tuple[Measure, ...] = tuple(
    speed_up(
        *("linear", f"dense / ours, {operation}, block {side}", f"1/{n}", operation),
        *(at_least(goal), block_of(side, n)),
    )
    for side, goals in STEP_GOALS.items()
    for n, goal in goals.items()
    for operation in ("step", "forward")
)

GPU_SUITE: tuple[Measure, ...] = (
    *BLOCKS,
    *(
        speed_up(
            *("linear", "dense / ours, forward, 1x1, IEEE float32", f"1/{n}", "forward"),
            *(at_least(goal), replace(ELEMENTS, density=1 / n)),
        )
        for n, goal in ELEMENT_GOALS.items()
    ),
    over(
        *("linear", "ours / dense, forward, 1x1, IEEE float32", "1/16, random pattern", "forward"),
        *(NOT_SLOWER, replace(ELEMENTS, density=1 / 16, family="random")),
    ),
    *(
        speed_up(
            *("linear", f"dense / ours, forward, block {side}, batch {batch}", family, "forward"),
            *(at_least(4), replace(JUNCTION, block=side, batch=batch, family=family)),
        )
        for side in (1, 4)
        for family in ("clash_free", "random")
        for batch in SMALL_BATCHES
    ),
    *(
        measure
        for side, goals in STEP_GOALS.items()
        for n in goals
        for measure in against_peers(block_of(side, n))
    ),
)

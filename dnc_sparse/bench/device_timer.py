"""Medians of what a CUDA device does, from its own clock, caches cold."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from dnc_sparse.bench.timer import LEAST_ROUNDS, WARM_UP_ROUNDS

# written before each timed call: more than any L2, so many times that the call is launched
# meanwhile. A Hopper GPU writes 4 GiB in about 1 ms, the host takes up to 0.35 ms for a step
FLUSH_BYTES = 2**30
FLUSHES = 4


def interleaved_on_device(
    functions: Sequence[Callable[[], object]], rounds: int, budget_s: float | None = None
) -> list[float]:
    """Return the median seconds of each function on the device, over rounds in which all run once.

    Before each call a buffer larger than the L2 cache is written, so that operands come from
    memory; while the device does that, the call is launched, so that launching is not timed. Two
    untimed rounds come first. Once `budget_s` is spent no further round starts, after at least
    five. Raises ValueError for fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"timing needs at least 1 round, got {rounds}")
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    milliseconds: list[list[float]] = [[] for _ in functions]
    started = 0.0
    for number in range(WARM_UP_ROUNDS + rounds):
        done = number - WARM_UP_ROUNDS
        if done == 0:
            started = time.perf_counter()
        late = budget_s is not None and time.perf_counter() - started > budget_s
        if late and done >= LEAST_ROUNDS:
            break
        pairs = [_timed(function, flush) for function in functions]
        torch.cuda.synchronize()
        if done >= 0:
            for times, (start, end) in zip(milliseconds, pairs, strict=True):
                times.append(start.elapsed_time(end))
    return [statistics.median(times) / 1e3 for times in milliseconds]


def _timed(
    function: Callable[[], object], flush: torch.Tensor
) -> tuple[torch.cuda.Event, torch.cuda.Event]:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    for _ in range(FLUSHES):
        flush.zero_()
    start.record()
    function()
    end.record()
    return start, end

"""How long a device works on something, caches cold, without the time to launch it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

WARM_UP_RUNS, RUNS = 2, 10
# a millisecond of writing, in which Python launches what is timed
FLUSH_BYTES = 2**32


def microseconds(run: Callable[[], object], device: str) -> float:
    """Return the median of ten runs; on the CPU, where nobody wants to know, the time of one."""
    if device == "cpu":
        began = time.perf_counter()
        run()
        return (time.perf_counter() - began) * 1e6
    times = [_once(run) for _ in range(WARM_UP_RUNS + RUNS)]
    return statistics.median(times[WARM_UP_RUNS:]) * 1e6


def _once(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    _flush().zero_()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


@cache
def _flush() -> Tensor:
    return torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")

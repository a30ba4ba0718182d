"""Medians over rounds in which everything that is compared runs in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

WARM_UP_ROUNDS = 2
HOT_CALLS = 10
# rounds that are done even when the time is up
LEAST_ROUNDS = 5


def interleaved(
    functions: Sequence[Callable[[], object]],
    rounds: int,
    *,
    hot: bool = False,
    threads: Sequence[int] | None = None,
    budget_s: float | None = None,
) -> list[float]:
    """Return the median seconds of each function over `rounds` in which all run in turn.

    Each call finds the caches as the other functions left them; when `hot`, a function runs ten
    times in a row after an untimed call, so that it finds its own data. Two untimed rounds come
    first. `threads` tells for each function how many torch has while it runs. Once `budget_s` is
    spent no further round starts, after at least five. Raises ValueError for fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"timing needs at least 1 round, got {rounds}")
    seconds: list[list[float]] = [[] for _ in functions]
    with threads_restored():
        for _ in range(WARM_UP_ROUNDS):
            _round(functions, threads, hot)
        started = time.perf_counter()
        for done in range(rounds):
            spent = time.perf_counter() - started
            if budget_s is not None and done >= LEAST_ROUNDS and spent > budget_s:
                break
            for own, new in zip(seconds, _round(functions, threads, hot), strict=True):
                own += new
    return [statistics.median(own) for own in seconds]


@contextmanager
def threads_restored() -> Iterator[None]:
    """Give torch back, afterwards, the number of threads it has now."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _round(
    functions: Sequence[Callable[[], object]], threads: Sequence[int] | None, hot: bool
) -> list[list[float]]:
    """Return the seconds of each function's timed calls in one round."""
    result = []
    for index, function in enumerate(functions):
        if threads is not None:
            torch.set_num_threads(threads[index])
        if hot:
            function()
        result.append([_seconds(function) for _ in range(HOT_CALLS if hot else 1)])
    return result


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start

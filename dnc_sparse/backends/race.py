"""Time a few ways to the same result, in little time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

ROUNDS = 5
# rounds that are done although `BUDGET_S` is spent, and ways that are tried although it is
LEAST_ROUNDS = 3
LEAST_TRIED = 2
BUDGET_S = 0.02
# no further round starts after so many seconds, however few were done
MOST_S = 0.1


def race(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the least seconds of each run over a few rounds in which all run in turn.

    The first round warms up; it counts where there is no time for another. Where runs take long
    only the first two are tried.
    """
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    for done in range(1 + ROUNDS):
        spent = time.perf_counter() - started
        if done and spent > (MOST_S if done <= LEAST_ROUNDS else BUDGET_S):
            break
        for name in seconds if done else runs:
            before = time.perf_counter()
            if not done and len(seconds) >= LEAST_TRIED and before - started > BUDGET_S:
                break
            runs[name]()
            took = time.perf_counter() - before
            seconds[name] = took if done < 2 else min(took, seconds[name])
    return seconds

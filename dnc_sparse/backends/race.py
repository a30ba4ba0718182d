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


def host_seconds(run: Callable[[], object]) -> float:
    """Run once and return the seconds that took, by the processor's clock."""
    before = time.perf_counter()
    run()
    return time.perf_counter() - before


def race(
    runs: Mapping[str, Callable[[], object]],
    timed: Callable[[Callable[[], object]], float] = host_seconds,
) -> dict[str, float]:
    """Return the least seconds of each run, as `timed` has them, over rounds of all in turn.

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
            late = time.perf_counter() - started > BUDGET_S
            if not done and len(seconds) >= LEAST_TRIED and late:
                break
            took = timed(runs[name])
            seconds[name] = took if done < 2 else min(took, seconds[name])
    return seconds

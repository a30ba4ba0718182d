"""Time a few ways to the same result, in little time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

Run = Callable[[], object]

ROUNDS = 5
# rounds that are done although the budget is spent, and ways that are tried although it is
LEAST_ROUNDS = 3
LEAST_TRIED = 2
BUDGET_S = 0.02
# no further round starts after so many budgets, however few were done
MOST_BUDGETS = 5


def host_seconds(run: Run) -> float:
    """Run once and return the seconds that took, by the processor's clock."""
    before = time.perf_counter()
    run()
    return time.perf_counter() - before


def race(
    entrants: Iterable[tuple[str, Run]],
    timed: Callable[[Run], float] = host_seconds,
    least_tried: int = LEAST_TRIED,
    budget_s: float = BUDGET_S,
) -> dict[str, float]:
    """Return the least seconds of each run by name, as `timed` has them, over rounds in turn.

    The first round warms up; it counts where there is no time for another. An entrant is asked for
    when it is to be timed: where runs take long, only the first `least_tried` are. The budget holds
    what the timing takes, not what an entrant takes to come.
    """
    runs: dict[str, Run] = {}
    seconds: dict[str, float] = {}
    spent = 0.0
    for done in range(1 + ROUNDS):
        if done and spent > (MOST_BUDGETS if done <= LEAST_ROUNDS else 1) * budget_s:
            break
        for name, run in runs.items() if done else entrants:
            before = time.perf_counter()
            took = timed(run)
            spent += time.perf_counter() - before
            seconds[name] = took if done < 2 else min(took, seconds[name])
            if done == 0:
                runs[name] = run
                if len(runs) >= least_tried and spent > budget_s:
                    break
    return seconds

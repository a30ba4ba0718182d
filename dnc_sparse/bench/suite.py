"""Take the measures of a suite, each in one interleaved run, with one and two threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from dnc_sparse.bench.candidates import Bench
from dnc_sparse.bench.device_timer import interleaved_on_device
from dnc_sparse.bench.measures import Measure, Run
from dnc_sparse.bench.timer import interleaved, threads_restored

THREADS = (1, 2)
LEFT_OUT = "left out of a quick run"


@dataclass(frozen=True)
class Effort:
    """Rounds of each measure, and the seconds after which no further round starts."""

    rounds: int = 30
    budget_s: float = 4.0
    heavy: bool = True


QUICK = Effort(rounds=7, budget_s=0.2, heavy=False)


@dataclass(frozen=True)
class Outcome:
    """A measure taken with a number of threads: both medians and the ratio, or why there is none.

    `threads` is 0 where the measure itself sets them. `failed` tells that something broke.
    """

    measure: Measure
    threads: int
    seconds: float | None = None
    against_seconds: float | None = None
    value: float | None = None
    unavailable: str | None = None
    failed: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None when nothing could be measured."""
        return None if self.value is None else self.measure.goal.met(self.value)


def plan(measures: Iterable[Measure], threads: Iterable[int]) -> list[tuple[Measure, int]]:
    """Return each measure with each number of threads, or with 0 when it sets them itself."""
    counts = tuple(threads)
    return [
        (measure, count)
        for measure in measures
        for count in (counts if _follows(measure) else (0,))
    ]


class Suite:
    """Takes measures with one effort; neighbours of one setting share its layers and inputs."""

    def __init__(self, effort: Effort) -> None:
        self.effort = effort
        self._bench = lru_cache(maxsize=2)(lambda setting: Bench(setting.problem()))

    def take(self, measure: Measure, threads: int) -> Outcome:
        """Time both runs of a measure in turn, each checked before, or say why that cannot be.

        Raises AssertionError when a candidate's result is off the oracle's by more than rounding.
        """
        runs = (measure.run, measure.against)
        counts = [run.threads or threads for run in runs]
        reason = _reason(measure, counts, self.effort)
        for run in runs:
            # drawing the pattern of a heavy measure takes seconds, so a reason stops it
            reason = reason or self._bench(run.setting).unavailable(run.candidate, run.operation)
        if reason is not None:
            return Outcome(measure, threads, unavailable=reason)
        with threads_restored():
            operations = [self._operation(*pair) for pair in zip(runs, counts, strict=True)]
            rounds, budget_s = self.effort.rounds, self.effort.budget_s
            seconds, against = (
                interleaved_on_device(operations, rounds, budget_s)
                if measure.run.setting.device == "cuda"
                else interleaved(
                    operations, rounds, hot=measure.hot, threads=counts, budget_s=budget_s
                )
            )
        return Outcome(measure, threads, seconds, against, measure.value(seconds, against))

    def _operation(self, run: Run, threads: int) -> Callable[[], list[Tensor]]:
        # a device's measures leave the threads as they are
        if threads:
            torch.set_num_threads(threads)
        return self._bench(run.setting).operation(run.candidate, run.operation)


def _follows(measure: Measure) -> bool:
    return None in (measure.run.threads, measure.against.threads)


def _reason(measure: Measure, counts: list[int], effort: Effort) -> str | None:
    """Why a measure is not taken; None when it is."""
    cores = os.cpu_count() or 1
    if max(counts) > cores:
        return f"{max(counts)} threads on {cores} core{'s' * (cores > 1)}"
    return LEFT_OUT if measure.heavy and not effort.heavy else None

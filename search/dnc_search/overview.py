"""How far a search is: what the ledger holds, counted and ranked for a person to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from optuna.trial import FrozenTrial, TrialState

from dnc_search.ledger import Ledger
from dnc_search.record import Record
from dnc_search.stages import BASELINE, FINAL, Course, SearchFailed, baseline_of


@dataclass(frozen=True)
class StageCount:
    """Slots of a stage: its budget, and how many are done (of these, failed) and running.

    Budgets of stages that have not begun are those that the incumbents of now would give them.
    """

    name: str
    budget: int
    done: int
    failed: int
    running: int


@dataclass(frozen=True)
class Running:
    """A candidate in training, by whom, and the last epoch that was heard of."""

    stage: str
    slot: int
    worker: str
    epoch: int


@dataclass(frozen=True)
class Overview:
    """A search as it is now.

    `best` has the incumbent of each w_c; a final run trains one of them for `final_share` times the
    epochs of a candidate. `failure` says why the search cannot go on, None where it can.
    """

    stages: tuple[StageCount, ...]
    running: tuple[Running, ...]
    best: dict[float, Record]
    records: tuple[Record, ...]
    final_share: float = 1.0
    failure: str | None = None

    def test_errors(self, record: Record) -> list[float]:
        """Return the test errors of a candidate's final runs."""
        runs = (run for run in self.records if run.stage == FINAL and run.key == record.key)
        return [run.measures["test_error"] for run in runs if "test_error" in run.measures]

    @property
    def slots(self) -> int:
        """Slots of all stages, as far as they are known."""
        return sum(stage.budget for stage in self.stages)

    @property
    def done(self) -> int:
        """Slots that are settled."""
        return sum(stage.done for stage in self.stages)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do, and there is something to show for it."""
        return self.done == self.slots and self.failure is None

    @property
    def seconds_left(self) -> float | None:
        """What is left to train for the workers of now, None before anything is known."""
        candidates = [r.seconds for r in self.records if r.stage not in (BASELINE, FINAL)]
        if not candidates:
            return None
        finals = [r.seconds for r in self.records if r.stage == FINAL]
        finals = finals or [r.seconds * self.final_share for r in self.best.values()]
        left = sum(
            (stage.budget - stage.done) * mean(finals if stage.name == FINAL else candidates)
            for stage in self.stages
            if stage.budget > stage.done
        )
        return left / max(1, len(self.running))


def overview(ledger: Ledger, course: Course) -> Overview:
    """Return how far a search is, without changing anything."""
    records: list[Record] = []
    stages: list[StageCount] = []
    running: list[Running] = []
    failure = None
    for name in course.names:
        slots = ledger.slots(name)
        budget, obstacle = _budget(course, name, records)
        if failure is None and all(stage.done == stage.budget for stage in stages):
            failure = obstacle
        mine = [slot.record(ledger.retries) for slot in slots[:budget]]
        found = [record for record in mine if record is not None]
        settled = sum(slot.is_settled(ledger.retries) for slot in slots[:budget])
        busy = [
            _running(name, slot.index, slot.holder)
            for slot in slots
            if slot.holder is not None and slot.holder.state == TrialState.RUNNING
        ]
        failed = sum(record.state == "failed" for record in found)
        stages.append(StageCount(name, budget, settled, failed, len(busy)))
        running += busy
        records += found
    final_share = course.search.epochs_of_finals / course.search.settings["epochs"]
    best = _best(course, records)
    return Overview(tuple(stages), tuple(running), best, tuple(records), final_share, failure)


def _budget(course: Course, name: str, history: Sequence[Record]) -> tuple[int, str | None]:
    """Return the slots of a stage, as far as they are known, and what keeps it from beginning."""
    budget = 0
    try:
        budget = course.budget(name, history)
        if history:
            baseline_of(history)
    except SearchFailed as failed:
        return budget, str(failed)
    return budget, None


def _best(course: Course, records: Sequence[Record]) -> dict[float, Record]:
    try:
        return course.incumbents(records)
    except SearchFailed:
        return {}


def _running(stage: str, slot: int, trial: FrozenTrial) -> Running:
    return Running(stage, slot, trial.user_attrs.get("worker", ""), trial.last_step or 0)

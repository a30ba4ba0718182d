"""The slots of a stage: which trial is whose attempt, what is settled, and what must run again.

A slot is one place in a stage's budget. Optuna numbers trials in the order in which they were
asked for; the slot of a trial is the number of trials before it that are not retries, and a retry
has its original's slot. All of this follows from the trials alone, so every worker sees the same.

| mark (user attribute) | meaning                                                                 |
|-----------------------|-------------------------------------------------------------------------|
| slot                  | this trial is a retry, of this slot                                     |
| config                | the configuration, complete; written in one piece before training       |
| point                 | the point of the unit cube that it was decoded from, where there is one |
| promises              | what the filter made of each proposal, in their order                   |
| worker                | who trains it                                                           |
| record                | the result: state, measures, curve, seconds, failure                    |
| skipped               | why the slot needs no candidate                                         |
| given back            | the worker was stopped by a person, which is not the candidate's fault  |
| surplus               | somebody else has the slot, or it is beyond the budget                  |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dnc_search.record import Record

OPEN = (TrialState.WAITING, TrialState.RUNNING)
# what was decided for a slot, which a retry takes over
CHOICE = ("config", "point", "promises")


@dataclass(frozen=True)
class Slot:
    """A slot and the attempts at it, first to last; surplus trials are not among them."""

    stage: str
    index: int
    attempts: tuple[FrozenTrial, ...]

    def record(self, retries: int) -> Record | None:
        """Return the result, None while there is none.

        A candidate whose worker died `retries` + 1 times is one that failed.
        """
        for attempt in self.attempts:
            if "record" in attempt.user_attrs and attempt.state.is_finished():
                return self._record(attempt, **attempt.user_attrs["record"])
        lost = [attempt for attempt in self.attempts if _lost(attempt)]
        if len(lost) > retries:
            reason = f"its worker ended without a word {len(lost)} times (out of memory?)"
            return self._record(lost[-1], state="failed", measures={}, failure=reason)
        return None

    def _record(self, attempt: FrozenTrial, **result: Any) -> Record:
        return Record(
            stage=self.stage,
            slot=self.index,
            config=attempt.user_attrs["config"],
            worker=attempt.user_attrs.get("worker", ""),
            **result | {"curve": tuple(result.get("curve", ()))},
        )

    @property
    def skipped(self) -> str | None:
        """Why the slot needs no candidate; None when it does."""
        reasons = [a.user_attrs["skipped"] for a in self.attempts if "skipped" in a.user_attrs]
        return reasons[0] if reasons else None

    def is_settled(self, retries: int) -> bool:
        """Whether nothing is left to do for it."""
        return self.skipped is not None or self.record(retries) is not None

    def is_taken(self, number: int, retries: int) -> bool:
        """Whether trial `number` comes too late: an earlier one has the slot, or it is settled."""
        earlier = (attempt for attempt in self.attempts if attempt.number < number)
        return self.is_settled(retries) or any(attempt.state in OPEN for attempt in earlier)

    @property
    def holder(self) -> FrozenTrial | None:
        """The attempt that is running or waits to be run."""
        for attempt in self.attempts:
            if attempt.state in OPEN:
                return attempt
        return None


def slots_of(stage: str, trials: Sequence[FrozenTrial]) -> list[Slot]:
    """Return the slots that a stage's trials, in the order of their numbers, were asked for."""
    attempts: list[list[FrozenTrial]] = []
    for trial in trials:
        if "slot" not in trial.user_attrs:
            attempts.append([])
            slot = len(attempts) - 1
        else:
            slot = trial.user_attrs["slot"]
        if "surplus" not in trial.user_attrs:
            attempts[slot].append(trial)
    return [Slot(stage, index, tuple(each)) for index, each in enumerate(attempts)]


def slot_of(number: int, trials: Sequence[FrozenTrial]) -> int:
    """Return the slot of trial `number`."""
    trial = trials[number]
    if "slot" in trial.user_attrs:
        return int(trial.user_attrs["slot"])
    return sum("slot" not in before.user_attrs for before in trials[:number])


def _lost(attempt: FrozenTrial) -> bool:
    # without a configuration it cannot have been the candidate that killed its worker
    marks = attempt.user_attrs
    return attempt.state == TrialState.FAIL and "config" in marks and "given back" not in marks

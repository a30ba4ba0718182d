"""A worker: takes the next slot, trains its candidate, writes down what came out, till all is done.

Any number of workers share a ledger, and none leads: what a slot trains follows from the records
before it. Where two could decide at once, the one with the lower trial number goes first.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import TrialPruned, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from dnc_search.evaluation import Evaluation, OnEpoch, reason
from dnc_search.ledger import Ledger, quiet_optuna
from dnc_search.parameters import Config, Value
from dnc_search.proposal import SpaceExhausted
from dnc_search.pruning import pruner
from dnc_search.record import Record
from dnc_search.sampler import suggest
from dnc_search.slots import OPEN, slot_of, slots_of
from dnc_search.stages import BASELINE, FINAL, Course, SearchFailed, baseline_of
from dnc_search.stop import Stop
from dnc_sparse.training import Epoch, StopTraining

POLL_SECONDS = 0.5
# choosing a candidate takes a second at most
CHOICE_POLL_SECONDS = 0.05


class Evaluator(Protocol):
    """What trains and measures candidates; one that cannot be trained is returned as failed.

    What `on_epoch` raises passes through, but `StopTraining` ends the training alone.
    """

    @property
    def epochs(self) -> int:
        """Epochs that a candidate is trained for."""

    def counted(self, config: Config) -> Mapping[str, float]:
        """Return the complexities that are known without training."""

    def baseline(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        """Measure the largest network."""

    def candidate(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        """Train a candidate, and validate it."""

    def final(self, config: Config, seed: int, slot: int, on_epoch: OnEpoch) -> Evaluation:
        """Train a winner on all but the test set, test it once, and keep its weights."""


class Worker:
    """Works on a search until it is done; `run` may be called again after any error.

    `tell` is given a line now and then for a person to read.
    """

    def __init__(
        self,
        ledger: Ledger,
        course: Course,
        evaluator: Evaluator,
        *,
        tell: Callable[[str], None] = lambda line: None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.name = f"{platform.node()}:{os.getpid()}"
        self.ledger, self.course, self.evaluator = ledger, course, evaluator
        self.tell, self._poll_seconds = tell, poll_seconds
        self.stop = Stop()

    def run(self) -> None:
        """Work until no slot is left.

        Raises KeyboardInterrupt on Ctrl-C and SIGTERM, after the trial under way was given back;
        LedgerError when the database fails; SearchFailed when no candidate can be trained, or the
        space cannot give the next one.
        """
        with self.stop:
            history: list[Record] = []
            for stage in self.course.names:
                budget = self.course.budget(stage, history)
                try:
                    self._run_stage(stage, budget, history)
                except KeyboardInterrupt:
                    self.ledger.repair(stage, budget)
                    raise KeyboardInterrupt(
                        "stopped; the candidate in training was given back, and the same command "
                        "goes on with the search"
                    ) from None
                history += self.ledger.records(stage)
                # nothing can be judged without it, so nothing need be trained
                baseline_of(history)

    def evaluate(self, stage: str, slot: int, config: Config, on_epoch: OnEpoch) -> Evaluation:
        """Train the candidate of a slot as its stage demands."""
        seed = self.course.seed(stage, slot)
        if stage == BASELINE:
            return self.evaluator.baseline(config, seed, on_epoch)
        if stage == FINAL:
            return self.evaluator.final(config, seed, slot, on_epoch)
        return self.evaluator.candidate(config, seed, on_epoch)

    def _run_stage(self, stage: str, budget: int, history: Sequence[Record]) -> None:
        waited = False
        while budget:
            self.stop.check()
            self.ledger.repair(stage, budget)
            trials = self.ledger.trials(stage)
            slots = slots_of(stage, trials)
            unsettled = [s for s in slots[:budget] if not s.is_settled(self.ledger.retries)]
            queued = any(trial.state == TrialState.WAITING for trial in trials)
            if len(slots) < budget or queued:
                self._run_trial(stage, budget, history)
                waited = False
            elif unsettled:
                if not waited:
                    self.tell(f"{stage}: waiting for {len(unsettled)} candidates of other workers")
                waited = True
                with self.stop.interruptible():
                    time.sleep(self._poll_seconds)
            else:
                return

    def _run_trial(self, stage: str, budget: int, history: Sequence[Record]) -> None:
        attempt = _Attempt(self, stage, budget, history)
        with self.ledger.database_errors("write to"), quiet_optuna():
            study = self.ledger.study(stage)
            study.sampler = attempt.values
            try:
                study.optimize(attempt.run, n_trials=1)
            except (UpdateFinishedTrialError, ValueError):
                if not attempt.was_taken(study):
                    raise
                self.tell(
                    f"{stage}: a candidate was given to another worker, as this one had not been "
                    f"heard of for too long"
                )


class _Given(BaseSampler):
    """Gives Optuna the values that were decided, so that its own tools can show them."""

    def __init__(self) -> None:
        self.values: Mapping[str, Value] = {}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self.values[param_name]


class _Attempt:
    """One trial of a stage, from its start to its record."""

    def __init__(self, worker: Worker, stage: str, budget: int, history: Sequence[Record]) -> None:
        self._worker, self._stage = worker, stage
        self._budget, self._history = budget, history
        self.values = _Given()
        self._trial: Trial | None = None
        self._has_raised = False

    def was_taken(self, study: optuna.Study) -> bool:
        """Whether the trial was given to another worker while this one had it."""
        if self._trial is None or self._has_raised:
            return False
        trials = study.get_trials(deepcopy=False)
        mine = next(trial for trial in trials if trial.number == self._trial.number)
        return mine.state == TrialState.FAIL

    def run(self, trial: Trial) -> float:
        """Train the candidate of the trial's slot and return its error."""
        self._trial = trial
        try:
            return self._run(trial)
        except ValueError:
            # Optuna raises some too, but after this
            self._has_raised = True
            raise

    def _run(self, trial: Trial) -> float:
        trials = self._worker.ledger.trials(self._stage)
        slot = slot_of(trial.number, trials)
        mine = slots_of(self._stage, trials)[slot]
        if slot >= self._budget or mine.is_taken(trial.number, self._worker.ledger.retries):
            trial.set_user_attr("surplus", True)
            raise TrialPruned
        trial.set_user_attr("worker", self._worker.name)
        config = trial.user_attrs.get("config")
        if config is None:
            try:
                config = self._choose(trial, slot)
            except SpaceExhausted as exhausted:
                self._worker.tell(str(exhausted))
                trial.set_user_attr("skipped", str(exhausted))
                raise TrialPruned from exhausted
        self._show(trial, config)
        return self._train(trial, slot, config)

    def _choose(self, trial: Trial, slot: int) -> Config:
        trials = self._trials_once_all_before_have_chosen(trial.number)
        records = [s.record(self._worker.ledger.retries) for s in slots_of(self._stage, trials)]
        chosen = [t for t in trials if "config" in t.user_attrs]
        try:
            candidate = self._worker.course.choose(
                self._stage,
                slot,
                self._history,
                [record for record in records if record is not None],
                pending=[t.user_attrs["config"] for t in chosen if t.state in OPEN],
                points=[
                    (t.user_attrs["config"], t.user_attrs["point"])
                    for t in chosen
                    if "point" in t.user_attrs
                ],
            )
        except (SpaceExhausted, SearchFailed):
            raise
        # of a space that may be the user's
        except Exception as error:
            raise SearchFailed(
                f"the space cannot give candidate {slot + 1} of the {self._stage} stage: "
                f"{reason(error)}; mend it, and run the same command again to go on"
            ) from error
        if candidate.point is not None:
            trial.set_user_attr("point", candidate.point)
        if candidate.promises:
            trial.set_user_attr("promises", candidate.promises)
        # from here on the others see it
        trial.set_user_attr("config", dict(candidate.config))
        return candidate.config

    def _trials_once_all_before_have_chosen(self, number: int) -> list[FrozenTrial]:
        """Wait until all trials before this one have chosen: two must not choose the same."""
        while True:
            trials = self._worker.ledger.trials(self._stage)
            choosing = [
                trial
                for trial in trials
                if trial.number < number
                and trial.state == TrialState.RUNNING
                and not {"config", "surplus", "skipped"} & set(trial.user_attrs)
            ]
            if not choosing:
                return trials
            # one of them may have died
            self._worker.ledger.repair(self._stage, self._budget)
            with self._worker.stop.interruptible():
                time.sleep(CHOICE_POLL_SECONDS)

    def _show(self, trial: Trial, config: Config) -> None:
        self.values.values = config
        for parameter in self._worker.course.parameters(self._stage):
            if parameter.name in config:
                suggest(trial, parameter)

    def _train(self, trial: Trial, slot: int, config: Config) -> float:
        worker, watch = self._worker, self._watch(trial, config)
        stopped = False

        def on_epoch(row: Epoch) -> None:
            nonlocal stopped
            with worker.stop.held():
                trial.report(watch(row), row.epoch)
                stopped = trial.should_prune()
            if stopped:
                raise StopTraining

        try:
            with worker.stop.interruptible():
                outcome = worker.evaluate(self._stage, slot, config, on_epoch)
        except KeyboardInterrupt:
            trial.set_user_attr("given back", True)
            raise
        trial.set_user_attr("record", asdict(outcome))
        if stopped:
            raise TrialPruned
        return float(outcome.measures.get("error", 1.0))

    def _watch(self, trial: Trial, config: Config) -> Callable[[Epoch], float]:
        """Set the pruner up, and return the figure of an epoch that it goes by."""
        course, evaluator = self._worker.course, self._worker.evaluator
        name, limit = course.search.pruner, None
        if self._stage in (BASELINE, FINAL):
            name = "none"
        counted = {} if name == "none" else evaluator.counted(config)
        # what cannot be counted cannot be built either, and has no epoch to judge
        if name == "curve" and counted:
            records = [*self._history, *self._worker.ledger.records(self._stage)]
            limit = course.highest_useful_error(counted, records)
        trial.study.pruner = pruner(name, evaluator.epochs, limit=limit)

        def figure(row: Epoch) -> float:
            # the final runs have no validation samples
            error = row.loss if row.validation_error is None else row.validation_error
            if name in ("none", "curve"):
                return error
            # the others compare candidates, which must include what they cost
            return course.loss_of({**counted, "error": error}, self._history, course.search.w_c[0])

        return figure

"""Train one candidate and measure it; whatever it does wrong is a result, not an error."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from dnc_search.measures import Subject, measure
from dnc_search.parameters import Config
from dnc_search.proxies import minibatch, proxies
from dnc_search.record import State
from dnc_search.space import Shape, Space
from dnc_sparse.data import DataSet, Split, join_validation
from dnc_sparse.schedules import ScheduleName
from dnc_sparse.training import Epoch, FitConfig, StopTraining, fit

OnEpoch = Callable[[Epoch], None]

# one to leave out, two to take the median of
BASELINE_EPOCHS = 3
# what a ledger holds of a reason
LONGEST_REASON = 500


@dataclass(frozen=True)
class Settings:
    """How every candidate of a search is trained and measured.

    `measures` names what is measured (`dnc_search.measures`), `latency_batch` counts samples.
    Raises ValueError for a value out of range, an unknown device or measure, and one given twice.
    """

    epochs: int = 10
    schedule: ScheduleName = "cosine"
    device: str = "cpu"
    measures: tuple[str, ...] = ("parameters", "edges", "flops", "seconds_per_epoch", "peak_bytes")
    latency_batch: int = 1

    def __post_init__(self) -> None:
        # refuses epochs and schedules as training would
        FitConfig(epochs=self.epochs, schedule=self.schedule)
        try:
            torch.device(self.device)
        except RuntimeError as error:
            raise ValueError(
                f"unknown device {self.device!r}; choose cpu, cuda or cuda:0"
            ) from error
        object.__setattr__(self, "measures", tuple(self.measures))
        if len(set(self.measures)) < len(self.measures):
            raise ValueError(f"a measure is named twice: {', '.join(self.measures)}")
        for name in self.measures:
            measure(name)
        if self.latency_batch < 1:
            raise ValueError(f"latency_batch must be at least 1 sample, got {self.latency_batch}")

    def fit_config(self, config: Config, seed: int) -> FitConfig:
        """Return the settings that a candidate is trained with."""
        chosen = {name: config[name] for name in ("learning_rate", "weight_decay", "batch_size")}
        return FitConfig(epochs=self.epochs, schedule=self.schedule, seed=seed, **chosen)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Evaluation:
    """What came of a candidate: the fields of a `Record` that do not depend on the search."""

    state: State
    measures: dict[str, float]
    curve: tuple[float, ...]
    seconds: float
    failure: str | None = None
    proxies: dict[str, float] = field(default_factory=dict)


def shape_of(data: DataSet) -> Shape:
    """Return what a network for these data must fit."""
    image = data.image_shape
    if image is not None and len(image) == 2:
        image = (1, *image)
    return Shape(data.n_features, data.n_outputs, image, data.is_regression)  # type: ignore[arg-type]


def evaluate(
    space: Space,
    config: Config,
    data: DataSet,
    settings: Settings,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
) -> Evaluation:
    """Train a complete configuration and return its error after the last epoch and its measures.

    The test set is not looked at. `on_epoch` sees each epoch; it stops the candidate by raising
    `StopTraining`, and whatever else it raises passes through.

    A candidate that cannot be built, trained or measured (out of memory, a loss that is not finite,
    a space that raises) is returned as failed, with the reason and what was measured before.
    Raises ValueError for data without a validation split, RuntimeError for a device that is not
    there.
    """
    _check_validation(data)
    run = _Run(space, config, data, settings, seed, on_epoch)
    return run.evaluation(settings.epochs)


def evaluate_final(
    space: Space,
    config: Config,
    data: DataSet,
    settings: Settings,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
    keep: Callable[[nn.Module], None] | None = None,
) -> Evaluation:
    """Train on all but the test set, the validation samples too, and test once, at the end.

    `test_error` takes the place of `error` among the measures, and there is no curve. `keep` is
    given the trained network. Otherwise as `evaluate`.
    """
    data = data if data.validation is None else join_validation(data)
    run = _Run(space, config, data, settings, seed, on_epoch, keep, final=True)
    return run.evaluation(settings.epochs)


def measure_baseline(
    space: Space, data: DataSet, settings: Settings, on_epoch: OnEpoch | None = None
) -> Evaluation:
    """Measure the largest network of the space, what all complexities are relative to.

    It is trained only where a measure needs that, for the few epochs that give an honest time, so
    it has no error and no curve. Fails and raises as `evaluate`.
    """
    _check_validation(data)
    needed = any(measure(name).kind == "trained" for name in settings.measures)
    few = replace(settings, epochs=BASELINE_EPOCHS)
    shape = shape_of(data)
    run = _Run(space, space.complete(space.largest(shape), shape), data, few, 0, on_epoch)
    result = run.evaluation(BASELINE_EPOCHS if needed else 0)
    measures = {name: value for name, value in result.measures.items() if name != "error"}
    return replace(result, measures=measures, curve=())


def count(
    space: Space, config: Config, data: DataSet, settings: Settings, seed: int = 0
) -> dict[str, float]:
    """Return the measures of a configuration that follow from its network alone.

    One that cannot be built or counted has none; `evaluate` says why.
    """
    names = [name for name in settings.measures if measure(name).kind == "counted"]
    run = _Run(space, config, data, replace(settings, measures=tuple(names)), seed)
    return run.evaluation(0).measures


def promise(
    space: Space, config: Config, data: DataSet, settings: Settings, name: str, seed: int = 0
) -> float | None:
    """Return a proxy by its name, or the `parameters`, of the network that a seed gives.

    One that cannot be built or counted has none; `evaluate` says why.
    """
    run = _Run(space, config, data, replace(settings, measures=("parameters",)), seed)
    found = run.evaluation(0)
    return (found.measures | found.proxies).get(name)


def _check_validation(data: DataSet) -> None:
    if data.validation is None:
        raise ValueError(
            f"{data.name} has no validation split to judge candidates by; make one with "
            f"split_validation"
        )


def check_device(device: str) -> None:
    """Raise RuntimeError unless there is such a device here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RuntimeError(
            f"the device {device!r} cannot be used here: {error}; search with another device, or "
            f"on a machine that has it"
        ) from error


@dataclass
class _Run:
    """One candidate on its way, and what is known of it so far: a failure loses none of that."""

    space: Space
    config: Config
    data: DataSet
    settings: Settings
    seed: int
    on_epoch: OnEpoch | None = None
    keep: Callable[[nn.Module], None] | None = None
    final: bool = False
    measures: dict[str, float] = field(default_factory=dict)
    curve: list[float] = field(default_factory=list)
    proxies: dict[str, float] = field(default_factory=dict)
    epochs_done: int = 0
    raised_outside: BaseException | None = None

    def evaluation(self, epochs: int) -> Evaluation:
        """Train for so many epochs and return what came of it."""
        check_device(self.settings.device)
        started = time.perf_counter()
        failure = None
        try:
            self._train_and_measure(epochs)
        # the space and the measures may be the user's, whose errors must not end the search
        except Exception as error:
            if error is self.raised_outside:
                raise
            failure = reason(error)
        if torch.device(self.settings.device).type == "cuda":
            # what a failed candidate held must not fail the next
            torch.cuda.empty_cache()
        ended: State = "complete" if self.epochs_done == epochs else "stopped"
        return Evaluation(
            "failed" if failure else ended,
            self.measures,
            tuple(self.curve),
            time.perf_counter() - started,
            failure,
            self.proxies,
        )

    def _train_and_measure(self, epochs: int) -> None:
        device = torch.device(self.settings.device)
        shape = shape_of(self.data)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # a space that draws from the global generator repeats too
            torch.manual_seed(self.seed)
            model = self.space.build(self.config, shape, self.seed).to(device)
        fit_config = self.settings.fit_config(self.config, self.seed)
        rows = max(fit_config.batch_size, self.settings.latency_batch)
        train = self.data.train
        samples = Split(train.x[:rows].to(device), train.y[:rows].to(device))
        subject = Subject(
            self.config, shape, model, samples, fit_config, self.settings.latency_batch
        )
        self._measure(subject, "counted", "run")
        self.proxies = proxies(model, minibatch(train.x).to(device))
        if not epochs:
            return
        history = fit(
            *(model, self.data),
            replace(fit_config, eval_every=epochs) if self.final else fit_config,
            progress=False,
            device=device,
            on_epoch=self._watch,
            evaluate_test=self.final,
        )
        last = history.epochs[-1]
        # a final run that was stopped has not been tested
        if not self.final:
            self.measures["error"] = self.curve[-1]
        elif last.test_error is not None:
            self.measures["test_error"] = last.test_error
        seconds = tuple(row.seconds for row in history.epochs)
        self._measure(replace(subject, seconds=seconds), "trained")
        if self.keep is not None:
            self._outside(partial(self.keep, model))

    def _measure(self, subject: Subject, *kinds: str) -> None:
        for each in map(measure, self.settings.measures):
            if each.kind in kinds:
                self.measures[each.name] = each.of(subject)

    def _watch(self, row: Epoch) -> None:
        error = row.test_error if self.final else row.validation_error
        if error is not None and not math.isfinite(error):
            raise ArithmeticError(f"the error became {error} in epoch {row.epoch}")
        self.epochs_done = row.epoch
        if row.validation_error is not None:
            self.curve.append(row.validation_error)
        if self.on_epoch is not None:
            self._outside(partial(self.on_epoch, row))

    def _outside(self, call: Callable[[], None]) -> None:
        """Call what is not the candidate's, whose errors are not its failures."""
        try:
            call()
        except StopTraining:
            raise
        except BaseException as error:
            self.raised_outside = error
            raise


def reason(error: Exception) -> str:
    """Say in a line what went wrong, and where in the code."""
    text = " ".join(str(error).split())[:LONGEST_REASON]
    # torch's CPU allocator raises a plain RuntimeError
    full = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate" in text
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{'out of memory: ' * full}{type(error).__name__}: {text} "
        f"({Path(place.filename).name}:{place.lineno})"
    )

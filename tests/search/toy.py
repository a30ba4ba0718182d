"""A search small enough for a test: numbers instead of networks, a formula instead of data."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dnc_search.definition import Search
from dnc_search.evaluation import Evaluation, OnEpoch
from dnc_search.kernel import Component
from dnc_search.ledger import Ledger, sqlite_url
from dnc_search.parameters import Config, Integer, Real
from dnc_search.record import State
from dnc_search.space import Bayesian, Grid, Shape, Stage
from dnc_search.stages import Course
from dnc_search.worker import Worker
from dnc_sparse.training import Epoch, StopTraining

EPOCHS = 3
SEARCH = Search(
    name="toy",
    data="morse-1.0",
    shape=asdict(Shape(64, 64)),
    space={"name": "toy"},
    settings={"epochs": EPOCHS},
    w_c=(0.0, 1.0),
    initial=4,
    steps=4,
    final_seeds=2,
)

STAGES: tuple[Stage, ...] = (
    Bayesian(
        "width",
        (Integer("width", 1, 1000),),
        (Component("width", lambda c: [float(c["width"])], lambda layer: (1.0, 1000.0)),),
    ),
    Grid("shape", lambda config: [{"shape": shape} for shape in ("round", "flat", "long")]),
    Bayesian(
        "rate",
        (Real("rate", 1e-4, 1e-2, log=True),),
        (Component("rate", lambda c: [math.log10(c["rate"])], lambda layer: (-4.0, -2.0)),),
    ),
)


def score(measures: Mapping[str, float], baseline: Mapping[str, float], w_c: float) -> float:
    """f with the width as complexity."""
    return math.log10(measures["error"] + w_c * measures["width"] / baseline["width"])


def course(search: Search = SEARCH, stages: tuple[Stage, ...] = STAGES) -> Course:
    """The stages of the toy search."""
    presets = {"shape": "round", "rate": 1e-3}
    return Course(
        search,
        stages,
        complete=lambda config: {**presets, **config},
        largest={**presets, "width": 1000},
        score=score,
    )


def error_of(config: Config) -> float:
    """Wide, long and at a rate of 2e-3 is best."""
    shape = {"round": 0.1, "flat": 0.2, "long": 0.05}[str(config["shape"])]
    rate = abs(math.log10(float(config["rate"]) / 2e-3))
    return 0.5 / math.sqrt(float(config["width"])) + shape + 0.1 * rate


@dataclass
class Formula:
    """An evaluator that trains nothing, takes `seconds`, and notes in `log` whom it was given."""

    seconds: float = 0.0
    log: Path | None = None
    epochs: int = EPOCHS

    def counted(self, config: Config) -> Mapping[str, float]:
        return {"width": float(config["width"])}

    def baseline(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        return self.candidate(config, seed, on_epoch)

    def candidate(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{os.getpid()} {dict(config)}\n")
        curve: list[float] = []
        with suppress(StopTraining):
            for number in range(1, self.epochs + 1):
                time.sleep(self.seconds / self.epochs)
                curve.append(error_of(config) * (1 + 0.1 * (self.epochs - number)))
                on_epoch(Epoch(number, 1.0, None, None, None, 0.0, curve[-1]))
        state: State = "complete" if len(curve) == self.epochs else "stopped"
        measures = {**self.counted(config), "error": curve[-1]}
        return Evaluation(state, measures, tuple(curve), self.seconds)

    def final(self, config: Config, seed: int, slot: int, on_epoch: OnEpoch) -> Evaluation:
        result = self.candidate(config, seed, on_epoch)
        return replace(result, measures={**result.measures, "test_error": result.curve[-1]})


@dataclass
class Failing(Formula):
    """An evaluator to which networks wider than `limit` are too large, but not the baseline."""

    limit: float = 500

    def baseline(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        return Evaluation("complete", dict(self.counted(config)), (), 0.0)

    def candidate(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        if float(config["width"]) > self.limit:
            return Evaluation("failed", {}, (), 0.0, "out of memory: too wide")
        return super().candidate(config, seed, on_epoch)


def ledger(folder: Path, **options: Any) -> Ledger:
    """The ledger of a folder."""
    return Ledger(sqlite_url(folder), SEARCH.name, **options)


def work(url: str, course: Course, evaluator: Formula, **options: Any) -> None:
    """Work on a toy search, as a process of its own does."""
    with Ledger(url, course.search.name, **options) as opened:
        Worker(opened, course, evaluator, poll_seconds=0.05).run()


def outline(opened: Ledger, course: Course) -> list[tuple[str, int, str, str, float]]:
    """What a search found, without what differs from run to run."""
    return [
        (r.stage, r.slot, r.key, r.state, r.error)
        for name in course.names
        for r in opened.records(name)
    ]

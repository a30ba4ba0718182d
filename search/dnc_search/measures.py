"""What a network costs: complexities by name, each with its unit.

| name          | meaning                                                                       |
|---------------|-------------------------------------------------------------------------------|
| subject       | the network that is measured, with all it was made and trained from           |
| multiply-adds | products of a weight and an activation, each added to a sum                   |
| 3 x forward   | a training pass: the forward one, and the gradients of activations and weights |
"""

from __future__ import annotations

import importlib
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from dnc_search import counting, energy, memory
from dnc_search.parameters import Config
from dnc_search.space import Shape, Space
from dnc_sparse.bench.timer import interleaved
from dnc_sparse.data import Split
from dnc_sparse.training import FitConfig

FLOPS_PER_MULTIPLY_ADD = 2
TRAINING_PASSES = 3
LATENCY_ROUNDS, LATENCY_BUDGET_S = 50, 1.0


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and what it is measured with.

    `samples` lie on the network's device; `fit` says how it is trained; `seconds` are those of the
    epochs it was trained for, none before.
    """

    config: Config
    shape: Shape
    model: nn.Module
    samples: Split
    fit: FitConfig
    latency_batch: int = 1
    seconds: tuple[float, ...] = ()

    def batch(self, size: int) -> Split:
        """Return `size` samples, from the start again where there are fewer."""
        rows = torch.arange(size, device=self.samples.x.device) % len(self.samples)
        return Split(self.samples.x[rows], self.samples.y[rows])


@dataclass(frozen=True)
class Measure:
    """A complexity: `of` measures a subject, in `unit`; `meaning` is a sentence for people.

    One that is `counted` follows from the network alone, one that is `run` takes a step or a pass
    of it, and one that is `trained` needs epochs of training first.
    """

    name: str
    unit: str
    meaning: str
    of: Callable[[Subject], float]
    kind: Literal["counted", "run", "trained"] = "counted"


def _flops(subject: Subject) -> float:
    forward = counting.multiply_adds(subject.model, subject.samples.x[:1])
    return TRAINING_PASSES * FLOPS_PER_MULTIPLY_ADD * forward


def _seconds_per_epoch(subject: Subject) -> float:
    # the first epoch loads code and fills caches
    return statistics.median(subject.seconds[1:] or subject.seconds)


def _peak_bytes(subject: Subject) -> float:
    size = min(subject.fit.batch_size, len(subject.samples))
    return memory.peak_bytes(subject.model, subject.batch(size), subject.fit)


def _latency_seconds(subject: Subject) -> float:
    x, model = subject.batch(subject.latency_batch).x, subject.model
    was_training = model.training
    model.eval()

    def answer() -> None:
        model(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)

    try:
        with torch.no_grad():
            (seconds,) = interleaved([answer], LATENCY_ROUNDS, budget_s=LATENCY_BUDGET_S)
    finally:
        model.train(was_training)
    return seconds


def _joules_per_sample(subject: Subject) -> float:
    size = min(subject.fit.batch_size, len(subject.samples))
    work = _flops(subject) / FLOPS_PER_MULTIPLY_ADD
    return energy.joules_per_sample(work, _peak_bytes(subject), size)


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(
            "parameters",
            "numbers",
            "Weights, biases and whatever else training changes.",
            lambda subject: counting.parameters(subject.model),
        ),
        Measure(
            "edges",
            "weights",
            "Weights of linear, sparse and convolutional layers, without biases.",
            lambda subject: counting.edges(subject.model),
        ),
        Measure(
            "flops",
            "FLOP per sample",
            "Floating-point operations of training on one sample: 2 per multiply-add, 3 passes.",
            _flops,
        ),
        Measure(
            "seconds_per_epoch",
            "s",
            "Median training time of an epoch on this machine, the first one left out.",
            _seconds_per_epoch,
            kind="trained",
        ),
        Measure(
            "peak_bytes",
            "bytes",
            "Memory of a training step: parameters, gradients, optimiser state, activations kept.",
            _peak_bytes,
            kind="run",
        ),
        Measure(
            "latency_seconds",
            "s",
            "Median time of a forward pass of the latency batch on this machine.",
            _latency_seconds,
            kind="run",
        ),
        Measure(
            "joules_per_sample",
            "J per sample",
            "Energy of training on one sample, an uncalibrated estimate for a 45 nm chip.",
            _joules_per_sample,
            kind="run",
        ),
    )
}


def measure(name: str) -> Measure:
    """Return a complexity by its name, or the user's own by `module:function`.

    The function takes (config, shape, model) and returns a number, 0 or more, that does not depend
    on training. Raises ValueError for an unknown name, a module that cannot be imported and a
    function that is not there.
    """
    if name in MEASURES:
        return MEASURES[name]
    module_name, colon, function_name = name.partition(":")
    if not colon:
        raise ValueError(
            f"unknown complexity {name!r}; known: {', '.join(MEASURES)}, or your own function as "
            f"module:function"
        )
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the complexity {name!r} cannot be used: {error}; give module:function, with the "
            f"module's folder on PYTHONPATH"
        ) from error
    if not callable(function):
        raise ValueError(f"the complexity {name!r} is no function but {function!r}")
    return Measure(name, "", "A function of the user's.", partial(_users, name, function))


def check_own(names: Iterable[str], space: Space, config: Config, shape: Shape) -> None:
    """Take the user's own complexities among these of one network, before any training.

    Raises ValueError, naming the function, when one raises or returns no number of 0 or more.
    """
    own = [measure(name) for name in names if name not in MEASURES]
    if not own:
        return
    samples = Split(torch.zeros(1, shape.n_features), torch.zeros(1, dtype=torch.int64))
    subject = Subject(config, shape, space.build(config, shape, 0), samples, FitConfig())
    for each in own:
        try:
            each.of(subject)
        # whatever the user's function does
        except Exception as error:
            raise ValueError(
                f"the complexity {each.name!r} cannot be taken of the largest network, "
                f"{dict(config)}: {type(error).__name__}: {error}"
            ) from error


def _users(
    name: str, function: Callable[[Config, Shape, nn.Module], Any], subject: Subject
) -> float:
    value = float(function(subject.config, subject.shape, subject.model))
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} returned {value}; a complexity must be finite and 0 or more")
    return value

"""Say which linear layers of a model would gain from sparsity on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import nn

from dnc_sparse import machine
from dnc_sparse.advice import predict
from dnc_sparse.advice.observe import calls_of
from dnc_sparse.advice.predict import Draw, Subject, Whole
from dnc_sparse.advice.report import Advice, Plan
from dnc_sparse.advice.steps import Factory, Step, adam, state_factor, step_on, trainable, trainee
from dnc_sparse.advice.subjects import check_model, find
from dnc_sparse.advice.timing import Progress, Task, Way, measure, pattern_of, timed
from dnc_sparse.bench.timer import threads_restored
from dnc_sparse.nn import densities, readers
from dnc_sparse.nn.candidates import Candidate, Skip
from dnc_sparse.nn.sparsify import sparsify
from dnc_sparse.patterns import Pattern
from dnc_sparse.patterns.blocks import AnyBlock, Auto, asked_block


def advise(
    model: nn.Module,
    example: Any = None,
    *,
    density: float | Sequence[float] = 1 / 8,
    block: AnyBlock = "auto",
    threads: int | None = None,
    skip: Skip = (),
    min_size: int = 1024,
    step: Step | None = None,
    optimizer: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer] | None = None,
    check: bool = False,
    budget_s: float = 20.0,
    progress: Progress | None = None,
) -> Advice:
    """Measure which linear layers would gain from sparsity here, and predict the training step.

    A copy of the model is trained for a few steps on the example: a tuple of arguments, a mapping
    of keyword arguments, or the only argument. Each of its linear layers is timed by itself, dense
    and sparse, with the inputs that it had there; the step to expect is the one measured, less the
    time of the layers that gain, plus that of sparse ones. A layer that would be slower stays
    dense. The model itself stays as it is, and so do the states of random numbers.

    `density` may be several, each of which gets a plan. `block`, `skip` and `min_size`
    are as in `sparsify`. A step is a forward, a backward
    and one of `optimizer`, a function from parameters to one; fused Adam by default. `step`, a
    function of (model, optimizer), does it in another way; the example may be left out then. With
    `check`, a copy is made sparse as advised and its step measured too. Timing ends after about
    `budget_s` seconds, but not before five rounds; `progress` is told of rounds done and of all.

    Accuracy is not measured. Raises ValueError for a model without trained parameters, lazy or on
    the meta device, an output that nothing can be trained by, and arguments out of range; TypeError
    for what is no model; RuntimeError for a model that is wrapped, that cannot be copied or does
    not run on the example.
    """
    wanted = _densities(density)
    size = _block(block)
    if threads is not None and densities.check_whole("threads", threads) < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    check_model(model)
    if example is None and step is None:
        raise ValueError(
            "advise runs the model: give an example (a tuple of arguments, a mapping of keyword "
            "arguments, or the only argument), or step="
        )
    factory = adam if optimizer is None else optimizer
    do_step = step_on(example) if step is None else step
    with _as_in_training(), threads_restored(), readers.random_states(model):
        if threads is not None:
            torch.set_num_threads(threads)
        subjects = find(model, size, skip, min_size, example)
        draw = cache(pattern_of)
        ways = [Way(value, size) for value in wanted]
        trained = trainee(model)
        stepper = _Stepper(trained, do_step, factory)
        originals = {s.candidate.names[0]: s.candidate.layer for s in subjects}
        copies = {name: trained.get_submodule(name) for name in originals}
        calls = calls_of(copies, stepper, originals)
        for name, subject in zip(originals, subjects, strict=True):
            subject.calls = calls[name]
        whole = _whole(model, state_factor(stepper.optimizer))
        tasks, tried = _tasks(subjects, ways, draw)
        parameters = trainable(model)
        least = _least(parameters, subjects, ways, draw)
        timings = measure(*(stepper, tasks, tried, parameters, least, factory, budget_s, progress))
        rows = [predict.layer_advice(s, ways, timings, draw) for s in subjects]
        plans = [
            predict.plan(way, i, subjects, rows, whole, timings.step) for i, way in enumerate(ways)
        ]
        if check:
            plans = [_measured(model, one, do_step, factory, min_size, budget_s) for one in plans]
        return Advice(
            *(tuple(rows), tuple(plans), timings.step, whole.parameters, whole.memory_mib()),
            machine=machine.describe(),
        )


@contextmanager
def _as_in_training() -> Iterator[None]:
    """Record gradients, whatever the code around has switched off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


class _Stepper:
    """A training step of one model, with the optimiser that belongs to it."""

    def __init__(self, model: nn.Module, step: Step, factory: Factory) -> None:
        self.optimizer = factory(trainable(model))
        self._model, self._step = model, step

    def __call__(self) -> None:
        self._step(self._model, self.optimizer)


def _densities(density: float | Sequence[float]) -> tuple[float, ...]:
    """Return the densities asked for. Raises TypeError or ValueError for what is none."""
    several = isinstance(density, Sequence) and not isinstance(density, str)
    values: Sequence[Any] = density if several else (density,)  # type: ignore[assignment]
    if not values:
        raise ValueError("give at least one density, such as 0.125")
    for value in values:
        densities.check_number("density", value)
    return tuple(dict.fromkeys(float(value) for value in values))


def _block(block: AnyBlock) -> tuple[int, int] | Auto:
    size = asked_block(block)
    if size is None:
        return "auto"
    if min(size) < 1:
        raise ValueError(f"block {size[0]}x{size[1]} must have sides of at least 1")
    return size


def _ways_of(subject: Subject, ways: Sequence[Way], draw: Draw) -> dict[Way, Pattern]:
    """Return the patterns that a layer may have; one of every edge is none."""
    layer = subject.candidate
    drawn = {way: draw(layer.n_in, layer.n_out, way) for way in ways if subject.fits}
    return {way: pattern for way, pattern in drawn.items() if pattern.density < 1}


def _tasks(
    subjects: Sequence[Subject], ways: Sequence[Way], draw: Draw
) -> tuple[dict[Task, Candidate], dict[Task, dict[Way, Pattern]]]:
    """Return what is to be timed, each with a layer to do it by, and the patterns to try."""
    layers: dict[Task, Candidate] = {}
    tried: dict[Task, dict[Way, Pattern]] = {}
    for subject in subjects:
        patterns = _ways_of(subject, ways, draw)
        for task in subject.tasks if patterns else ():
            layers.setdefault(task, subject.candidate)
            # of two layers of one size one may be skipped, or too large a block for it
            tried[task] = tried.get(task, {}) | patterns
    return layers, tried


def _least(
    parameters: Sequence[nn.Parameter], subjects: Sequence[Subject], ways: Sequence[Way], draw: Draw
) -> list[int]:
    """Return how many weights of each parameter remain where the most are removed."""
    fewest = {
        subject.candidate.parameters["weight"]: min(p.n_edges for p in patterns.values())
        for subject in subjects
        if subject.calls and (patterns := _ways_of(subject, ways, draw))
    }
    return [fewest.get(parameter, parameter.numel()) for parameter in parameters]


def _whole(model: nn.Module, state: float) -> Whole:
    sizes = {p: p.numel() * p.element_size() for p in model.parameters()}
    return Whole(
        parameters=sum(p.numel() for p in sizes),
        size_bytes=sum(sizes.values()),
        trained_bytes=sum(size for p, size in sizes.items() if p.requires_grad),
        state=state,
    )


def _measured(
    model: nn.Module, plan: Plan, step: Step, factory: Factory, min_size: int, budget_s: float
) -> Plan:
    """Make a copy sparse as a plan says, and measure its step beside that of the model."""
    if not plan.replaced:
        return plan
    before, after = trainee(model), trainee(model)
    with warnings.catch_warnings():
        # densities that are rounded; the table has them
        warnings.simplefilter("ignore", UserWarning)
        sparsify(after, plan.density, block=plan.block, skip=plan.skip, min_size=min_size)
    steps = [_Stepper(m, step, factory) for m in (before, after)]
    before_s, after_s = timed(steps, budget_s)
    return replace(plan, measured_before_s=before_s, measured_s=after_s)

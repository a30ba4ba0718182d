"""From the times of layers to the time of a step: arithmetic only, nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dnc_sparse.advice.observe import Calls
from dnc_sparse.advice.report import LayerAdvice, Option, Plan, globbed
from dnc_sparse.advice.timing import Task, Timings, Way
from dnc_sparse.nn.candidates import Candidate
from dnc_sparse.patterns import Pattern

MIB = 2**20
Draw = Callable[[int, int, Way], Pattern]


@dataclass
class Subject:
    """A linear layer of the model, its calls in a step, and what stands against making it sparse.

    `reason` says why the layer cannot be replaced, None when it can; `taken` whether `sparsify`
    would replace it when it is not told to skip it.
    """

    candidate: Candidate
    calls: Calls = field(default_factory=Calls)
    reason: str | None = None
    taken: bool = True

    @property
    def fits(self) -> bool:
        """Whether the layer can be replaced."""
        return self.reason is None

    @property
    def samples(self) -> int:
        """Rows that the layer multiplies in a step."""
        return sum(call.samples * count for call, count in self.calls.items())

    @property
    def tasks(self) -> Mapping[Task, int]:
        """What is timed for the layer, and how often that comes in a step."""
        return {Task.of(self.candidate, call): count for call, count in self.calls.items()}


@dataclass(frozen=True)
class Whole:
    """The model as it is: trained and other parameters, bytes, and those of the optimiser's state.

    `state` is the bytes of state over those of the trained parameters.
    """

    parameters: int
    size_bytes: int
    trained_bytes: int
    state: float

    def memory_mib(self, removed_bytes: int = 0, removed_trained: int = 0) -> float:
        """Return the MiB of parameters and state when bytes are removed, some of them trained."""
        parameters = self.size_bytes - removed_bytes
        return (parameters + self.state * (self.trained_bytes - removed_trained)) / MIB


def layer_advice(
    subject: Subject, ways: Sequence[Way], timings: Timings, draw: Draw
) -> LayerAdvice:
    """Return a layer's times, dense and in each way."""
    layer = subject.candidate
    timed = (
        subject.fits
        and bool(subject.calls)
        and all(task in timings.dense for task in subject.tasks)
    )
    per_weight = timings.per_weight if timed and _is_trained(layer) else 0.0
    dense = sum(timings.dense[task] * n for task, n in subject.tasks.items()) if timed else 0.0
    return LayerAdvice(
        *(layer.names, layer.n_in, layer.n_out, subject.calls.total(), subject.samples),
        seconds=dense + per_weight * layer.n_in * layer.n_out if timed else None,
        options=tuple(_option(subject, way, timings, per_weight, draw) for way in ways),
    )


def plan(
    way: Way,
    index: int,
    subjects: Sequence[Subject],
    layers: Sequence[LayerAdvice],
    whole: Whole,
    step_s: float,
) -> Plan:
    """Return what the model would be with the layers that gain replaced in a way.

    `index` is that of the way among the options of `layers`.
    """
    removed = removed_bytes = removed_trained = 0
    for subject, layer in zip(subjects, layers, strict=True):
        if not layer.gains(index):
            continue
        option = layer.options[index]
        assert layer.seconds is not None
        assert option.seconds is not None
        assert option.weights is not None
        step_s -= layer.seconds - option.seconds
        weights = layer.n_in * layer.n_out - option.weights
        size = weights * subject.candidate.weight.element_size()
        removed += weights
        removed_bytes += size
        removed_trained += size * _is_trained(subject.candidate)
    return Plan(
        *way,
        replaced=tuple(layer.names[0] for layer in layers if layer.gains(index)),
        skip=skips(subjects, layers, index),
        step_s=step_s,
        parameters=whole.parameters - removed,
        memory_mib=whole.memory_mib(removed_bytes, removed_trained),
    )


def skips(
    subjects: Sequence[Subject], layers: Sequence[LayerAdvice], index: int
) -> tuple[str, ...]:
    """Name the layers that `sparsify` would replace and should not, by globs where they fit."""
    wanted = [s.candidate for s, own in zip(subjects, layers, strict=True) if own.gains(index)]
    named: dict[str, list[str]] = {}
    for subject, layer in zip(subjects, layers, strict=True):
        if layer.gains(index) or not subject.taken or layer.options[index].density == 1:
            continue
        name = layer.names[0]
        glob = globbed(name)
        named.setdefault(name if any(c.called(glob) for c in wanted) else glob, []).append(name)
    # a layer's name says more than a glob that stands for it alone
    return tuple(names[0] if len(names) == 1 else glob for glob, names in named.items())


def _is_trained(layer: Candidate) -> bool:
    return layer.parameters["weight"].requires_grad


def _option(subject: Subject, way: Way, timings: Timings, per_weight: float, draw: Draw) -> Option:
    layer = subject.candidate
    if not subject.fits:
        return Option(reason=subject.reason)
    pattern = draw(layer.n_in, layer.n_out, way)
    if pattern.density == 1:
        return Option(1.0, reason=f"its density nearest to {way.density:g} is 1")
    seconds = sum(timings.sparse[task, way] * n for task, n in subject.tasks.items())
    return Option(
        pattern.density,
        pattern.n_edges,
        seconds + per_weight * pattern.n_edges if subject.calls else None,
    )

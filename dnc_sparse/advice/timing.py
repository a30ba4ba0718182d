"""Time what a training step consists of: layers, dense and sparse, and the optimiser's step.

| name | meaning                                                                               |
|------|---------------------------------------------------------------------------------------|
| way  | a density and a block that a layer may have                                           |
| task | what the time of a layer depends on: its kind, its sizes and one way it is called     |
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dnc_sparse.advice.observe import Call
from dnc_sparse.advice.steps import Factory
from dnc_sparse.bench.timer import WARM_UP_ROUNDS, interleaved
from dnc_sparse.nn.candidates import Candidate
from dnc_sparse.nn.linear import SparseLinear
from dnc_sparse.patterns import Pattern, nearest
from dnc_sparse.patterns.blocks import Auto

Run = Callable[[], object]
# told of the rounds done, and of all
Progress = Callable[[int, int], object]
# rounds done at least, so that one disturbed round does not decide
ROUNDS = 15


class Way(NamedTuple):
    """A density asked for, and the block in which its edges come."""

    density: float
    block: tuple[int, int] | Auto


@dataclass(frozen=True)
class Task:
    """A layer of some kind and sizes, called in one way; equal tasks take equal time."""

    kind: type[nn.Module]
    n_in: int
    n_out: int
    dtype: torch.dtype
    trained: tuple[tuple[str, bool], ...]
    call: Call

    @classmethod
    def of(cls, layer: Candidate, call: Call) -> Task:
        """Return the task of one call of a layer."""
        trained = tuple((name, p.requires_grad) for name, p in layer.parameters.items())
        return cls(*(type(layer.layer), layer.n_in, layer.n_out, layer.weight.dtype, trained), call)


@dataclass(frozen=True)
class Timings:
    """Seconds of a step, of each task, dense and in each way, and of the optimiser's two steps.

    `optimizer` holds those for the parameters as they are and for the fewest, `counts` how many
    parameters those are.
    """

    step: float
    dense: Mapping[Task, float]
    sparse: Mapping[tuple[Task, Way], float]
    optimizer: tuple[float, float]
    counts: tuple[int, int]

    @property
    def per_weight(self) -> float:
        """Seconds of the optimiser's step that each weight costs."""
        removed = self.counts[0] - self.counts[1]
        return max(self.optimizer[0] - self.optimizer[1], 0.0) / removed if removed else 0.0


def pattern_of(n_in: int, n_out: int, way: Way) -> Pattern:
    """Return the pattern that stands for all of these sizes and way, as `sparsify` draws them."""
    with warnings.catch_warnings():
        # the report tells the density that there is
        warnings.simplefilter("ignore", UserWarning)
        return nearest(n_in, n_out, density=way.density, block=way.block)


def measure(
    step: Run,
    layers: Mapping[Task, Candidate],
    ways: Mapping[Task, Mapping[Way, Pattern]],
    parameters: Sequence[Tensor],
    least: Sequence[int],
    optimizer: Factory,
    budget_s: float,
    progress: Progress | None,
) -> Timings:
    """Time a step, every task in every way and the optimiser, taking turns in each round.

    Everything meets the same state of the machine that way. `least` tells how many weights of each
    of the trained parameters remain when the most are removed. The planner decides about kernels in
    the first rounds, which do not count.
    """
    before = _optimizing(optimizer, parameters, [p.numel() for p in parameters])
    runs: list[Run] = [_counted(step, progress), before, _optimizing(optimizer, parameters, least)]
    for task, layer in layers.items():
        runs.append(_calling(_dense(layer), task.call))
        for pattern in ways[task].values():
            runs.append(_calling(_sparse(layer, pattern), task.call))
    places = iter(timed(runs, budget_s))
    whole, *optimizing = next(places), next(places), next(places)
    dense_s: dict[Task, float] = {}
    sparse_s: dict[tuple[Task, Way], float] = {}
    for task in layers:
        dense_s[task] = next(places)
        sparse_s |= {(task, way): next(places) for way in ways[task]}
    counts = (sum(p.numel() for p in parameters), sum(least))
    return Timings(whole, dense_s, sparse_s, (optimizing[0], optimizing[1]), counts)


def timed(runs: Sequence[Run], budget_s: float) -> list[float]:
    """Return the median seconds of each run over rounds of all in turn."""
    return interleaved([_synchronised(run) for run in runs], ROUNDS, budget_s=budget_s)


def _counted(step: Run, progress: Progress | None) -> Run:
    """Tell of each round, in which this is called once."""
    done = 0

    def run() -> None:
        nonlocal done
        step()
        done += 1
        if progress is not None:
            progress(done, ROUNDS + WARM_UP_ROUNDS)

    return run


def _synchronised(run: Run) -> Run:
    """Let a run end when the GPU has done its work, where there is one at work."""
    if not torch.cuda.is_available():
        return run

    def until_done() -> None:
        run()
        torch.cuda.synchronize()

    return until_done


def _dense(layer: Candidate) -> nn.Module:
    return copy.deepcopy(layer.layer)


def _sparse(layer: Candidate, pattern: Pattern) -> nn.Module:
    weight, old = layer.weight, layer.parameters
    sparse = SparseLinear(
        *(layer.n_in, layer.n_out),
        pattern=pattern,
        bias="bias" in old,
        device=weight.device,
        dtype=weight.dtype,
    )
    for name, parameter in sparse.named_parameters():
        parameter.requires_grad_(old[name].requires_grad)
    return sparse


def _calling(layer: nn.Module, call: Call) -> Run:
    """Return a run of a layer's forward, and its backward where the call asks for that."""
    x = _input(call).requires_grad_(call.grad_input)
    kind, cast = call.device.type, call.autocast
    parameters = list(layer.parameters())
    gradient: Tensor | None = None

    def run() -> None:
        nonlocal gradient
        # a step draws memory for its gradients, as it sets those of the last one to None
        for tensor in (x, *parameters):
            tensor.grad = None
        casting = nullcontext() if cast is None else torch.autocast(kind, cast)
        with torch.set_grad_enabled(call.backward), casting:
            y: Tensor = layer(x)
        if y.requires_grad:
            if gradient is None:
                gradient = torch.randn_like(y)
            torch.autograd.backward(y, gradient)

    return run


def _input(call: Call) -> Tensor:
    if _overlaps(call):
        return torch.randn(call.shape, dtype=call.dtype, device=call.device)
    x = torch.empty_strided(call.shape, call.stride, dtype=call.dtype, device=call.device)
    return x.normal_()


def _overlaps(call: Call) -> bool:
    """Tell whether entries of the input may share memory, as those of expanded tensors do."""
    reach = 0
    for stride, size in sorted(zip(call.stride, call.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += (size - 1) * stride
    return math.prod(call.shape) == 0


def _optimizing(optimizer: Factory, parameters: Sequence[Tensor], counts: Sequence[int]) -> Run:
    """Return an optimiser's step over parameters like these, with so many weights each."""
    tensors = [
        nn.Parameter(torch.zeros(p.shape if count == p.numel() else count).to(p))
        for p, count in zip(parameters, counts, strict=True)
    ]
    for tensor in tensors:
        tensor.grad = torch.randn_like(tensor)
    return optimizer(tensors).step

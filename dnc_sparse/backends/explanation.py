"""What the planner chooses for a junction, and what it timed, as a table to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from dnc_sparse.backends import cpu, gpu, half
from dnc_sparse.backends.calls import calls
from dnc_sparse.backends.planner import AMX, DENSE, Case, Decision, Method, decide
from dnc_sparse.patterns import Pattern


class Layer(Protocol):
    """What is asked of a layer: its pattern and its weights."""

    @property
    def pattern(self) -> Pattern: ...

    @property
    def weight(self) -> Tensor: ...


@dataclass(frozen=True)
class Explanation:
    """The planner's decision for each function of a junction; `str` shows them as a table."""

    pattern: Pattern
    batch: int
    dtype: torch.dtype
    where: str
    decisions: Mapping[str, Decision[Any]]

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        rows = [("function", "method", "why")]
        rows += [(name, _method(each), each.reason) for name, each in self.decisions.items()]
        lines = [f"{self.pattern!r}, batch {self.batch}, {dtype}, {self.where}", *_aligned(rows)]
        timed = [(name, *cells) for name, each in self.decisions.items() for cells in _times(each)]
        if timed:
            lines += ["", *_aligned([("function", "timed with", "microseconds"), *timed])]
        return "\n".join(lines)


def explain(
    layer: Pattern | Layer,
    batch: int,
    dtype: torch.dtype | None = None,
    threads: int | None = None,
    device: torch.device | str | None = None,
) -> Explanation:
    """Say by which method each function of a layer is computed, and why.

    What the planner does not know yet and would measure at a first call is measured now. `dtype`
    and `device` default to the layer's, float32 and "cpu" for a pattern; `threads`, which count on
    the CPU only, to torch's. Raises ValueError for a negative batch or fewer than one thread,
    RuntimeError where the kernels cannot run.
    """
    pattern = layer if isinstance(layer, Pattern) else layer.pattern
    if dtype is None:
        dtype = torch.float32 if isinstance(layer, Pattern) else layer.weight.dtype
    if device is None:
        device = "cpu" if isinstance(layer, Pattern) else layer.weight.device
    place = torch.device(device)
    used = torch.get_num_threads() if threads is None else threads
    if batch < 0 or used < 1:
        raise ValueError(
            f"a batch of {batch} with {used} threads cannot be explained; "
            f"give a batch from 0 and threads from 1"
        )
    planned = gpu if place.type == "cuda" else cpu
    # the dtype that the kernels compute in
    computed = half.COMPUTED.get(dtype, dtype) if planned is cpu else dtype
    reason = planned.unavailable(place.type, computed)
    if reason is not None:
        raise RuntimeError(f"the planner cannot run here: {reason}")
    if planned is gpu:
        # GPUs count on padded rows: `backends.padded`
        pattern = pattern.padded
    drawn = _calls(pattern, batch, computed, place)
    if planned is gpu:
        on_device = {
            name: gpu.decide(gpu.Case(name, pattern, batch, dtype, place), arguments)
            for name, arguments in drawn.items()
        }
        return Explanation(pattern, batch, dtype, gpu.card(place), on_device)
    before = torch.get_num_threads()
    torch.set_num_threads(used)
    try:
        decisions = {
            function.name: decide(
                Case(function, pattern, batch, computed), used, drawn[function.name]
            )
            for function in cpu.FUNCTIONS
        }
    finally:
        torch.set_num_threads(before)
    where = f"{used} thread{'s' * (used != 1)}"
    if computed != dtype:
        where += f", computed in {str(computed).removeprefix('torch.')} and rounded once"
    return Explanation(pattern, batch, dtype, where, decisions)


def _calls(
    pattern: Pattern, batch: int, dtype: torch.dtype, device: torch.device
) -> dict[str, tuple[Any, ...]]:
    """Return `calls` with random operands, drawn where they are used: a CPU would take seconds."""
    generator = torch.Generator(device).manual_seed(0)
    shapes = ((batch, pattern.n_in), (batch, pattern.n_out), pattern.weight_shape, (pattern.n_out,))
    x, grad_y, weight, bias = (
        torch.randn(shape, generator=generator, device=device).to(dtype) for shape in shapes
    )
    return calls(pattern, x, grad_y, weight, bias)


def _method(decision: Decision[Any]) -> str:
    method = decision.method
    if not isinstance(method, Method) or method in (AMX, DENSE):
        return str(method)
    samples = f", {method.samples} samples a tile" if method.samples else ""
    return f"sparse, {method.instruction_set}{samples}"


def _times(decision: Decision[Any]) -> list[tuple[str, str]]:
    """Return what was timed and its microseconds, fastest first."""
    return [
        (title, ", ".join(f"{m} {s * 1e6:,.0f}" for m, s in sorted(times.items(), key=_seconds)))
        for title, times in (
            ("one thread, sparse kernels", decision.tuning),
            (
                "all threads, best of each method" if decision.tuning else "all methods",
                decision.seconds,
            ),
        )
        if times
    ]


def _seconds(item: tuple[object, float]) -> float:
    return item[1]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]

"""What the planner chooses for a junction, and what it timed, as a table to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dnc_sparse.backends import cpu
from dnc_sparse.backends.planner import DENSE, Case, Decision, Function, decide
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
    threads: int
    decisions: Mapping[str, Decision]

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        rows = [("function", "method", "why")]
        rows += [(name, _method(own), own.reason) for name, own in self.decisions.items()]
        lines = [f"{self.pattern!r}, batch {self.batch}, {dtype}, {threads}", *_aligned(rows)]
        timed = [(name, *cells) for name, own in self.decisions.items() for cells in _times(own)]
        if timed:
            lines += ["", *_aligned([("function", "timed with", "microseconds"), *timed])]
        return "\n".join(lines)


def explain(
    layer: Pattern | Layer,
    batch: int,
    dtype: torch.dtype | None = None,
    threads: int | None = None,
) -> Explanation:
    """Say by which method a layer's three functions are computed on the CPU, and why.

    What the planner does not know yet and would measure at a first call is measured now. `dtype`
    defaults to the layer's, float32 for a pattern; `threads` to torch's. Raises ValueError for a
    negative batch or fewer than one thread, RuntimeError where the kernels cannot run.
    """
    pattern = layer if isinstance(layer, Pattern) else layer.pattern
    if dtype is None:
        dtype = torch.float32 if isinstance(layer, Pattern) else layer.weight.dtype
    used = torch.get_num_threads() if threads is None else threads
    if batch < 0 or used < 1:
        raise ValueError(
            f"a batch of {batch} with {used} threads cannot be explained; "
            f"give a batch from 0 and threads from 1"
        )
    reason = cpu.unavailable("cpu", dtype)
    if reason is not None:
        raise RuntimeError(f"the planner cannot run here: {reason}")
    before = torch.get_num_threads()
    torch.set_num_threads(used)
    try:
        decisions = {
            function.name: decide(Case(function, pattern, batch, dtype), used, arguments)
            for function, arguments in _calls(pattern, batch, dtype)
        }
    finally:
        torch.set_num_threads(before)
    return Explanation(pattern, batch, dtype, used, decisions)


def _calls(
    pattern: Pattern, batch: int, dtype: torch.dtype
) -> list[tuple[Function, tuple[object, ...]]]:
    """Return each function with arguments as a layer with a bias would give them."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((batch, pattern.n_in), (batch, pattern.n_out), pattern.weight_shape, (pattern.n_out,))
    x, grad_y, weight, bias = (torch.randn(s, generator=generator).to(dtype) for s in shapes)
    return [
        (cpu.FORWARD, (x, weight, bias, pattern)),
        (cpu.GRAD_INPUT, (grad_y, weight, pattern)),
        (cpu.GRAD_WEIGHT, (grad_y, x, pattern)),
    ]


def _method(decision: Decision) -> str:
    method = decision.method
    if method == DENSE:
        return "dense"
    samples = f", {method.samples} samples a tile" if method.samples else ""
    return f"sparse, {method.instruction_set}{samples}"


def _times(decision: Decision) -> list[tuple[str, str]]:
    """Return what was timed and its microseconds, fastest first."""
    return [
        (title, ", ".join(f"{m} {s * 1e6:,.0f}" for m, s in sorted(found.items(), key=_seconds)))
        for title, found in (
            ("one thread, sparse kernels", decision.tuning),
            ("all threads, best and dense", decision.seconds),
        )
        if found
    ]


def _seconds(item: tuple[object, float]) -> float:
    return item[1]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]

"""What `advise` measured, as data and as a table to read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dnc_sparse import checkpoint
from dnc_sparse.patterns.blocks import Auto

# a sparse layer must need less than this share of the dense one's time; less is noise
MARGIN = 0.95
NOT_MEASURED = (
    "accuracy was not measured: train both, as `dnc-sparse front` and `dnc-sparse compare` do"
)


@dataclass(frozen=True)
class Option:
    """A layer with a density that it can have, in a block: its time in a step, and its weights.

    `reason` says why the layer cannot be replaced so; there is no time then. `density` is the
    feasible one nearest to that of the plan.
    """

    density: float | None = None
    weights: int | None = None
    seconds: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class LayerAdvice:
    """A linear layer: its names, sizes, calls in a training step, time, and an option a plan.

    `seconds` is what forward, backward and its share of the optimiser's step take in one training
    step, over all calls; None for a layer that is not called or cannot be replaced. `samples` are
    the rows it multiplies in a step.
    """

    names: tuple[str, ...]
    n_in: int
    n_out: int
    calls: int
    samples: int
    seconds: float | None
    options: tuple[Option, ...]

    def gains(self, plan: int) -> bool:
        """Tell whether the layer is faster sparse, as the plan has it."""
        sparse = self.options[plan].seconds
        return self.seconds is not None and sparse is not None and sparse < MARGIN * self.seconds

    def verdict(self, plan: int) -> str:
        """Say what to do with the layer in a plan, and why."""
        option = self.options[plan]
        if option.reason is not None:
            return f"cannot: {option.reason}"
        if self.seconds is None or option.seconds is None:
            return "not called: keep dense"
        ratio = self.seconds / option.seconds
        if self.gains(plan):
            return f"gains {ratio:.1f}x"
        return "slower: keep dense" if ratio < MARGIN else "no gain: keep dense"


@dataclass(frozen=True)
class Plan:
    """A density and block for the layers that gain, and what the model would be with them.

    `step_s` is the predicted time of a training step, `measured_s` that of a copy made sparse by
    `call`, if it was measured, and `measured_before_s` that of the model beside it.
    """

    density: float
    block: tuple[int, int] | Auto
    replaced: tuple[str, ...]
    skip: tuple[str, ...]
    step_s: float
    parameters: int
    memory_mib: float
    measured_before_s: float | None = None
    measured_s: float | None = None

    @property
    def call(self) -> str | None:
        """The line of code that makes the model so; None when no layer gains."""
        if not self.replaced:
            return None
        skip = f", skip={list(self.skip)}" if self.skip else ""
        block = ""
        if self.block != "auto":
            bo, bi = self.block
            block = f", block={bo if bo == bi else self.block}"
        text = f"model = sparsify(model, density={self.density:g}{block}{skip})"
        return text.replace("'", '"')


@dataclass(frozen=True, repr=False)
class Advice:
    """Which linear layers would gain from sparsity on this machine, and the step before and after.

    `step_s` is the measured time of a training step of the model as it is; `memory_mib` that of its
    parameters and the optimiser's state. `plans` has one for each density asked for. Printing it
    gives a table.
    """

    layers: tuple[LayerAdvice, ...]
    plans: tuple[Plan, ...]
    step_s: float
    parameters: int
    memory_mib: float
    machine: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the table of layers, then the step, memory and line of code of each plan."""
        lines = _aligned([_header(self.plans), *_rows(self.layers, len(self.plans))])
        if not self.layers:
            lines = ["the model has no linear layer: there is nothing to make sparse"]
        lines += ["", *_where(self)]
        for plan in self.plans:
            lines += ["", *_summary(self, plan)]
        return "\n".join([*lines, "", NOT_MEASURED])

    __repr__ = __str__

    def record(self) -> dict[str, Any]:
        """Return everything as a JSON-able record, verdicts and lines of code included."""
        record = asdict(self)
        for layer, own in zip(record["layers"], self.layers, strict=True):
            layer["verdicts"] = [own.verdict(i) for i in range(len(self.plans))]
        for plan, one in zip(record["plans"], self.plans, strict=True):
            plan["call"] = one.call
        return record

    def to_json(self, path: str | Path) -> None:
        """Write the record to a file. Raises RuntimeError when it cannot be written."""
        checkpoint.write_json(Path(path), self.record())


def globbed(name: str) -> str:
    """Return a layer's name with a star for each number that is a part of it."""
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))


def _header(plans: Sequence[Plan]) -> tuple[str, ...]:
    columns = [
        cell for plan in plans for cell in (f"{plan.density:g}{_block(plan)}, us", "verdict")
    ]
    return ("layer", "inputs -> outputs", "samples", "dense, us", *columns)


def _rows(layers: Sequence[LayerAdvice], plans: int) -> list[tuple[str, ...]]:
    """Return a row for each layer, one for all that differ in numbers of their names only."""
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for layer in layers:
        cells = [f"{layer.n_in} -> {layer.n_out}", f"{layer.samples:,}", _us(layer.seconds)]
        for plan in range(plans):
            cells += [_us(layer.options[plan].seconds), layer.verdict(plan)]
        key = tuple(re.sub(r"'[^']*'", _starred, cell) for cell in cells)
        alike[(" = ".join(map(globbed, layer.names)), *key)].append(" = ".join(layer.names))
    return [
        (names[0] if len(names) == 1 else f"{key[0]} ({len(names)})", *key[1:])
        for key, names in alike.items()
    ]


def _starred(quoted: re.Match[str]) -> str:
    return f"'{globbed(quoted[0][1:-1])}'"


def _where(advice: Advice) -> list[str]:
    threads, processor = advice.machine.get("threads"), advice.machine.get("processor")
    where = "" if processor is None else f" ({processor}, {threads} thread{'s' * (threads != 1)})"
    return [
        f"times of a layer: forward, backward and its share of the optimiser in a step{where}",
        f"a training step takes {_ms(advice.step_s)} ms now; "
        f"{advice.parameters:,} parameters, {advice.memory_mib:.1f} MiB with the optimiser's state",
    ]


def _summary(advice: Advice, plan: Plan) -> list[str]:
    what = f"density {plan.density:g}{_block(plan)}"
    if plan.call is None:
        return [f"{what}: no layer gains; keep the model dense"]
    lines = [
        f"{what}: a step of {_ms(plan.step_s)} ms expected, "
        f"{advice.step_s / plan.step_s:.2f} times as fast; {plan.parameters:,} parameters, "
        f"{plan.memory_mib:.1f} MiB"
    ]
    if plan.measured_s is not None and plan.measured_before_s is not None:
        lines.append(
            f"measured: {_ms(plan.measured_before_s)} ms before, {_ms(plan.measured_s)} ms after"
        )
    return [*lines, f"    {plan.call}"]


def _block(plan: Plan) -> str:
    return "" if plan.block == "auto" else f" {plan.block[0]}x{plan.block[1]}"


def _us(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e6 * seconds:,.0f}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = [rows[0][i].endswith(("us", "samples")) for i in range(len(widths))]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in rows
    ]

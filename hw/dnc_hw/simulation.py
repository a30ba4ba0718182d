"""Train or run a network on the machine, and report what it did and what it took.

| name     | meaning                                                           |
|----------|-------------------------------------------------------------------|
| pixels   | inputs as the machine takes them, 8 bits each                     |
| window   | inputs over which correct winners are counted while training      |
| lanes' use | edges / (lanes * T): share of the lane clocks that meet an edge |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnc_hw import schedule
from dnc_hw.engine import Engine
from dnc_hw.fixed_point import Ints
from dnc_hw.issue import Hazard, RowClash
from dnc_hw.machine import Machine
from dnc_hw.parameters import initial_parameters
from dnc_hw.saturation import Saturation
from dnc_hw.trace import NO_LABEL, Parameters, Pixels, Simulator
from dnc_sparse.data import Split

if TYPE_CHECKING:
    from torch import Tensor

Build = Callable[[Machine, Parameters], Simulator]
MAX_PIXEL = 255


@dataclass(frozen=True)
class JunctionReport:
    """What one junction did in every junction cycle (from 1)."""

    junction: int
    lanes_use: float
    clash_stall_clocks: int
    hazard_stall_clocks: int
    clashes: tuple[RowClash, ...]
    hazards: tuple[Hazard, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """A run: the winner of every input, clocks, and what the junctions did.

    winners, labels: [inputs]; `parameters` are those after the last update; `padded_inputs` of the
    machine's inputs were always zero; `saturation` per junction counts results that were clipped.
    """

    machine: Machine
    winners: Ints
    labels: Ints
    clocks: int
    padded_inputs: int
    junctions: tuple[JunctionReport, ...]
    saturation: tuple[Saturation, ...]
    parameters: Parameters

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each input was won by its label: [inputs]."""
        equal: NDArray[np.bool_] = self.winners == self.labels
        return equal

    @property
    def accuracy(self) -> float:
        """Share of the inputs won by their label, each judged before it updates the weights."""
        return float(self.correct.mean())

    @property
    def time_s(self) -> float:
        """Time on the machine at its clock."""
        return self.clocks / (self.machine.clock_mhz * 1e6)


def simulate(
    machine: Machine,
    data: Split,
    *,
    epochs: int = 1,
    train: bool = True,
    parameters: Parameters | None = None,
    simulator: Build = Engine,
) -> Report:
    """Run samples in their order, `epochs` times, and drain the pipeline after the last.

    x: [samples, features] in [0, 1], features padded with zeros to the machine's inputs. Without
    `train` no input updates anything. Parameters default to `initial_parameters`.

    Raises ValueError for samples or classes that do not fit the machine.
    """
    if data.is_regression:
        raise ValueError("the machine classifies; give data with classes, not a regression")
    pixels, labels = as_pixels(data.x, machine.n_in), np.asarray(data.y, dtype=np.int64)
    if labels.max(initial=0) >= machine.n_out:
        raise ValueError(
            f"{labels.max() + 1} classes do not fit {machine.n_out} outputs; "
            f"take a last layer of at least {labels.max() + 1}"
        )
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    runner = simulator(machine, parameters or initial_parameters(machine))
    winners, clocks = [], 0
    for epoch in range(epochs):
        codes = np.zeros(len(labels), dtype=np.int64)
        if train:
            codes = machine.rate.for_inputs(epoch * len(labels), len(labels))
        trace = runner.run(pixels, labels, codes)
        winners.append(trace.winners)
        clocks += trace.clocks
    drain = schedule.update_delay(machine.junctions, 1)
    trace = runner.run(
        np.zeros((drain, machine.n_in), dtype=np.uint8),
        np.full(drain, NO_LABEL),
        np.zeros(drain, dtype=np.int64),
    )
    late = schedule.forward_delay(machine.junctions)
    found = np.concatenate([*winners, trace.winners])[late : late + epochs * len(labels)]
    return Report(
        machine,
        found,
        np.tile(labels, epochs),
        clocks + trace.clocks,
        machine.n_in - data.x.shape[1],
        junction_reports(machine),
        runner.saturation(),
        runner.parameters(),
    )


def junction_reports(machine: Machine) -> tuple[JunctionReport, ...]:
    """Report the use of lanes, stalls, clashes and hazards, the same in every junction cycle."""
    return tuple(
        JunctionReport(
            i,
            order.n_edges / (order.lanes * machine.cycle_clocks),
            issue.clash_stall_clocks,
            issue.hazard_stall_clocks,
            issue.clashes,
            issue.hazards,
        )
        for i, (order, issue) in enumerate(zip(machine.orders, machine.issues, strict=True), 1)
    )


def as_pixels(x: Tensor | ArrayLike, n_in: int) -> Pixels:
    """Round features in [0, 1] to 8-bit pixels and append zeros up to `n_in`: [samples, n_in].

    Raises ValueError for features outside [0, 1] and for more than `n_in` of them.
    """
    values = np.asarray(x, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] > n_in:
        raise ValueError(
            f"inputs of shape {list(values.shape)} do not fit [samples, {n_in}]; "
            f"take a first layer of at least {values.shape[-1] if values.ndim else 1}"
        )
    if not (values.min(initial=0) >= 0 and values.max(initial=0) <= 1):
        raise ValueError(
            f"inputs must lie in 0..1, got {values.min():g}..{values.max():g}; rescale them"
        )
    pixels = np.floor(values * MAX_PIXEL + 0.5).astype(np.uint8)
    return np.pad(pixels, ((0, 0), (0, n_in - values.shape[1])))

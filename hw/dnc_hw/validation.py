"""Hold a simulator against recordings: how many values were compared, and how many differ.

| name       | meaning                                                     |
|------------|-------------------------------------------------------------|
| quantity   | an array of the recording, or what follows from one         |
| compared   | values compared; rows of the warm-up and the drain are not  |
| differing  | values that are not equal; there is no tolerance            |
| window     | inputs over which correct winners are counted, 1000         |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnc_hw import schedule
from dnc_hw.activation import SigmoidTable
from dnc_hw.edges import swept
from dnc_hw.engine import Engine
from dnc_hw.fixed_point import FixedPoint, Ints
from dnc_hw.machine import Machine
from dnc_hw.model import Model
from dnc_hw.recording import UNITS_FILE, Recording, find_recordings, read_arrays, read_recording
from dnc_hw.trace import Parameters, Simulator, Vectors

SimulatorName = Literal["engine", "model"]
SIMULATORS: dict[str, Callable[[Machine, Parameters], Simulator]] = {
    "engine": Engine,
    "model": Model,
}
WINDOW = 1000
# correct winners in the window at the end of each pass over the inputs
AFTER_PASSES = "correct_last1000_at_epoch_end"
# junction cycles whose vectors are held at a time
CHUNK = 1000


@dataclass(frozen=True)
class Row:
    """One quantity of one file; `first` is the index of the first difference, None without.

    `simulated` has the values themselves of the correct winners after each pass, else None.
    """

    file: str
    quantity: str
    compared: int
    differing: int
    first: tuple[int, ...] | None
    simulated: tuple[int, ...] | None = None


class Comparison:
    """Counts what was compared, quantity by quantity."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._rows: dict[str, Row] = {}

    def add(self, quantity: str, found: Ints, recorded: Ints, first_row: int = 0) -> None:
        """Compare arrays of one shape whose first row has this number in the recording.

        Raises ValueError for another shape.
        """
        if found.shape != recorded.shape:
            raise ValueError(
                f"{self._file}: {quantity} was recorded as {list(recorded.shape)}, "
                f"the machine gives {list(found.shape)}"
            )
        differing = np.argwhere(found != recorded)
        first = None
        if len(differing):
            index = [int(i) for i in differing[0]]
            first = (index[0] + first_row, *index[1:]) if index else ()
        before = self._rows.get(quantity, Row(self._file, quantity, 0, 0, None))
        self._rows[quantity] = Row(
            self._file,
            quantity,
            before.compared + found.size,
            before.differing + len(differing),
            first if before.first is None else before.first,
            tuple(found.tolist()) if quantity == AFTER_PASSES else None,
        )

    def rows(self) -> list[Row]:
        """Return one row per quantity, in the order of the first comparison."""
        return list(self._rows.values())


def validate(
    data_dir: Path | str | None = None,
    *,
    simulator: SimulatorName = "engine",
    files: Iterable[Path | str] | None = None,
) -> list[Row]:
    """Reproduce recordings and return the table of differences.

    `files` defaults to all of the data folder (`recording.find_recordings`).

    Raises ValueError for an unknown simulator, and as `read_recording`.
    """
    if simulator not in SIMULATORS:
        raise ValueError(f"unknown simulator {simulator!r}; choose {' or '.join(SIMULATORS)}")
    rows: list[Row] = []
    for path in find_recordings(data_dir) if files is None else files:
        if Path(path).name == UNITS_FILE:
            rows += compare_units(path)
        else:
            rows += compare(read_recording(path, data_dir), SIMULATORS[simulator])
    return rows


def compare_units(path: Path | str) -> list[Row]:
    """Compare every product and sum of a file of vectors, named w{width}_i{I}_f{F}_a, _b, ..."""
    comparison, arrays = Comparison(Path(path).stem), read_arrays(path)
    for name in sorted(arrays):
        match = re.fullmatch(r"(w\d+_i(\d+)_f(\d+))_a", name)
        if match is None:
            continue
        prefix, number = match[1], FixedPoint(int(match[2]), int(match[3]))
        a, b = arrays[name], arrays[f"{prefix}_b"]
        comparison.add(f"{prefix}_product", number.multiply(a, b), arrays[f"{prefix}_product"])
        comparison.add(f"{prefix}_sum", number.add(a, b), arrays[f"{prefix}_sum"])
    return comparison.rows()


def compare(recording: Recording, build: Callable[[Machine, Parameters], Simulator]) -> list[Row]:
    """Run a recording's stimuli and compare every value that it holds."""
    comparison = Comparison(recording.name)
    _compare_machine(comparison, recording)
    simulator = build(recording.machine, recording.parameters)
    inputs = len(recording.labels)
    cycles = inputs + schedule.update_delay(recording.machine.junctions, 1)
    winners, first_maxima = [], []
    clocks = 0
    for first, count in _chunks(cycles, _snapshots(recording)):
        trace = simulator.run(*recording.stimuli(first, count), record=True)
        assert trace.vectors is not None
        clocks += trace.clocks
        winners.append(trace.winners)
        first_maxima.append(np.argmax(trace.vectors.activations[-1], axis=1))
        _compare_vectors(comparison, recording, trace.vectors, first)
        _compare_parameters(comparison, recording, simulator.parameters(), first + count)
    if "clocks_observed" in recording.arrays:
        observed = recording.arrays["clocks_observed"]
        comparison.add("clocks_observed", np.full_like(observed, clocks // cycles), observed)
    _compare_winners(comparison, recording, np.concatenate(winners), np.concatenate(first_maxima))
    return comparison.rows()


def _snapshots(recording: Recording) -> Ints:
    return recording.arrays.get("snap_count", np.empty(0, dtype=np.int64))


def _chunks(cycles: int, counts: Ints) -> list[tuple[int, int]]:
    """Split a run at every snapshot, and at least every `CHUNK` cycles."""
    inside = counts[(counts > 0) & (counts < cycles)]
    ends = np.union1d(np.append(inside, cycles), np.arange(CHUNK, cycles, CHUNK)).astype(int)
    starts = [0, *ends[:-1]]
    return [(int(a), int(b - a)) for a, b in zip(starts, ends, strict=True)]


def _compare_machine(comparison: Comparison, recording: Recording) -> None:
    machine = recording.machine
    table = machine.activation(machine.junctions - 1)
    assert isinstance(table, SigmoidTable)
    found = {
        "clocks_per_junction_cycle": np.array(machine.cycle_clocks),
        "table_sigma": table.values,
        "table_dsigma": table.slopes,
        "table_domain": np.array(table.domain),
    }
    for i, order in enumerate(machine.orders, 1):
        sweeps = order.left.reshape(-1, order.depth_words, order.lanes)
        # the interleaver's walk from the addresses at which the recorded sweeps start
        found[f"left{i}"] = swept(sweeps[:, 0] // order.lanes, order.depth_words)
        found[f"right{i}"] = np.arange(order.n_edges) // order.pattern.fan_in
    for name, values in found.items():
        if name in recording.arrays:
            comparison.add(name, values, recording.arrays[name])


def _compare_vectors(
    comparison: Comparison, recording: Recording, vectors: Vectors, first: int
) -> None:
    """Compare the rows of cycles that worked on an input of the recording."""
    machine, arrays = recording.machine, recording.arrays
    inputs, last = len(recording.labels), machine.junctions
    target = (vectors.activations[-1] - vectors.output_delta) >> machine.number.fraction_bits
    found: list[tuple[str, Ints, int]] = [
        (f"delta{last}", vectors.output_delta, schedule.forward_delay(last)),
        ("label_onehot", target, schedule.forward_delay(last)),
    ]
    for i in range(1, last + 1):
        forward, update = schedule.forward_delay(i), schedule.update_delay(last, i)
        found.append((f"act{i}", vectors.activations[i - 1], forward))
        found.append((f"delta{i}_used", vectors.deltas[i - 1], update))
        found.append((f"etapos_used_j{i}", vectors.codes[i - 1], update))
        if i < last:
            found.append((f"dact{i}", vectors.slopes[i - 1], forward))
    for name, rows, delay in found:
        if name not in arrays:
            continue
        begin = max(delay - first, 0)
        end = min(inputs + delay - first, len(rows))
        if begin < end:
            recorded = arrays[name][first + begin : first + end]
            comparison.add(name, rows[begin:end], recorded, first + begin)


def _compare_parameters(
    comparison: Comparison, recording: Recording, parameters: Parameters, count: int
) -> None:
    snapshots = np.flatnonzero(_snapshots(recording) == count)
    for snapshot in snapshots:
        for i in range(recording.machine.junctions):
            for name, words in (("w", parameters.weights[i]), ("b", parameters.biases[i])):
                quantity = f"snap_{name}{i + 1}"
                recorded = recording.arrays[quantity][snapshot]
                comparison.add(quantity, words[None], recorded[None], int(snapshot))


def _compare_winners(
    comparison: Comparison, recording: Recording, winners: Ints, first_maxima: Ints
) -> None:
    arrays, inputs = recording.arrays, len(recording.labels)
    delay = schedule.forward_delay(recording.machine.junctions)
    winner, first = winners[delay : delay + inputs], first_maxima[delay : delay + inputs]
    if "argmax" in arrays:
        recorded = arrays["argmax"]
        # by cycle, or by input
        late = delay if len(recorded) > inputs else 0
        comparison.add("argmax", winner, recorded[late : late + inputs], late)
    if "argmax_full" in arrays:
        comparison.add("argmax_full", first, arrays["argmax_full"])
    correct, full = winner == recording.labels, first == recording.labels
    ends = np.arange(1, recording.passes + 1) * len(recording.inputs)
    for name, found in (
        ("correct", correct.astype(np.int64)),
        ("running_correct_last1000", correct_in_window(correct)),
        (AFTER_PASSES, correct_in_window(correct)[ends - 1]),
        ("correct_last1000_full_argmax", correct_in_window(full)[ends - 1]),
    ):
        if name in arrays:
            comparison.add(name, found, arrays[name])


def correct_in_window(correct: NDArray[np.bool_], window: int = WINDOW) -> Ints:
    """Count the correct ones among the last `window` inputs, fewer at the start: [inputs]."""
    total = np.concatenate([[0], np.cumsum(correct)])
    ends = np.arange(1, len(total))
    counted: Ints = total[ends] - total[np.maximum(ends - window, 0)]
    return counted

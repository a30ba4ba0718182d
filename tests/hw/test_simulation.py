"""Whole runs: published accuracy and clocks, policies, and data that does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sparse.data_files import data_dir

from dnc_hw.machine import Machine
from dnc_hw.model import Model
from dnc_hw.parameters import initial_parameters
from dnc_hw.presets import preset
from dnc_hw.recording import read_recording
from dnc_hw.simulation import Report, as_pixels, simulate
from dnc_hw.trace import Trace, check_run
from dnc_sparse.data import Split


def samples(count: int, features: int, classes: int) -> Split:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, features, generator=generator)
    return Split(x, torch.arange(count) % classes)


def test_published_accuracy_under_each_policy() -> None:
    folder = data_dir("rtl-traces")
    data_dir("mnist")
    recording = read_recording(folder / "rtl-traces" / "d_p0.npz", folder)
    x = torch.from_numpy(recording.inputs[:, :784].astype(np.float32) / 255)
    data = Split(x, torch.from_numpy(recording.labels))
    results: dict[tuple[int, str], tuple[int, int]] = {}
    for pipeline_clocks, hazards in ((0, "reject"), (2, "emulate"), (2, "forward"), (2, "stall")):
        machine = preset("mnist-12bit", pipeline_clocks=pipeline_clocks, hazards=hazards)
        report = simulate(machine, data, parameters=recording.parameters)
        last_1000 = int(report.correct[-1000:].sum())
        results[pipeline_clocks, hazards] = report.clocks // 12_548, last_1000
    assert results == {
        (0, "reject"): (34, 830),
        (2, "emulate"): (36, 750),
        (2, "forward"): (36, 830),
        (2, "stall"): (66, 830),
    }


def test_winners_are_those_of_their_inputs() -> None:
    machine = preset("small")
    data, parameters = samples(12, 64, 4), initial_parameters(machine, shared=False)
    together = simulate(machine, data, train=False, parameters=parameters)
    alone = [
        simulate(machine, Split(x[None], y[None]), train=False, parameters=parameters).winners[0]
        for x, y in zip(data.x, data.y, strict=True)
    ]
    assert together.winners.tolist() == alone
    # a shifted list would differ
    assert alone[1:] != alone[:-1]


@pytest.mark.parametrize("train", [True, False])
def test_reports(train: bool) -> None:
    machine = preset("test-shallow", pipeline_clocks=2, hazards="stall")
    data = samples(20, 60, 8)
    report = simulate(machine, data, epochs=2, train=train)
    same = simulate(machine, data, epochs=2, train=train, simulator=Model)
    assert np.array_equal(report.winners, same.winners)
    assert report.clocks == same.clocks == (2 * 20 + 4) * machine.cycle_clocks
    assert report.time_s == report.clocks / 15e6
    assert report.accuracy == np.mean(report.winners == np.tile(data.y.numpy(), 2))
    assert report.padded_inputs == 4
    changed = (report.parameters.weights[0] != initial_parameters(machine).weights[0]).any()
    assert changed == train
    first, second = report.junctions
    assert (first.hazard_stall_clocks, second.hazard_stall_clocks) == (0, 2)
    assert first.lanes_use == 128 / (32 * 10)


def test_features_become_pixels() -> None:
    pixels = as_pixels([[0.0, 1.0, 128 / 255, 0.001]], 6)
    assert pixels.tolist() == [[0, 255, 128, 0, 0, 0]]


def run(**changes: object) -> Callable[[], Report]:
    return lambda: simulate(preset("small"), samples(4, 8, 4), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (run(epochs=0), "epochs must be at least 1, got 0"),
        (
            lambda: simulate(preset("small"), samples(4, 65, 4)),
            "inputs of shape [4, 65] do not fit [samples, 64]; take a first layer of at least 65",
        ),
        (
            lambda: simulate(preset("small"), samples(8, 8, 5)),
            "5 classes do not fit 4 outputs; take a last layer of at least 5",
        ),
        (
            lambda: simulate(preset("small"), Split(torch.rand(2, 8), torch.rand(2, 1))),
            "the machine classifies; give data with classes, not a regression",
        ),
        (lambda: as_pixels([[1.5]], 1), "inputs must lie in 0..1, got 1.5..1.5; rescale them"),
    ],
)
def test_data_that_does_not_fit(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        call()


@pytest.mark.parametrize(
    ("inputs", "labels", "codes", "text"),
    [
        (
            np.zeros((2, 64)),
            [0, 0],
            [0, 0],
            "inputs must be 8-bit pixels (uint8), got float64; see dnc_hw.as_pixels",
        ),
        (
            np.zeros((2, 63), np.uint8),
            [0, 0],
            [0, 0],
            "inputs must be [cycles, 64], got shape [2, 63]",
        ),
        (
            np.zeros((2, 64), np.uint8),
            [0],
            [0, 0],
            "labels must be [2], one per input, got shape [1]",
        ),
        (
            np.zeros((2, 64), np.uint8),
            [0, 4],
            [0, 0],
            "labels must lie in 0..3 (or -1 for none), got 0..4",
        ),
        (
            np.zeros((2, 64), np.uint8),
            [0, 0],
            [0, 9],
            "learning-rate code 9 is none of format (1, 2, 7); choose 0 (no update) or 1 to 8 "
            "(eta = 2^-(code - 1)), nearest 8",
        ),
    ],
)
def test_runs_that_do_not_fit(
    inputs: np.ndarray, labels: list[int], codes: list[int], text: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        check_run(preset("small"), inputs, np.array(labels), np.array(codes))


def test_simulators_share_one_interface() -> None:
    def trained(machine: Machine) -> Trace:
        from dnc_hw.trace import Simulator

        simulator: Simulator = Model(machine, initial_parameters(machine))
        return simulator.run(np.zeros((1, 64), np.uint8), np.zeros(1, int), np.zeros(1, int))

    assert trained(preset("small")).vectors is None

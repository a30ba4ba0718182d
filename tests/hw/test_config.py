"""Machines from TOML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dnc_hw.config import machine_from, read_machine
from dnc_hw.devices import Device
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.learning_rate import LearningRate

TEXT = """
layers = [64, 32, 8]
fan_out = [2, 2]
lanes = [16, 8]
number = {integer_bits = 2, fraction_bits = 7}
pipeline_clocks = 2
hidden_activation = "relu"
hazards = "reject"
rate = {codes = [4, 5], change_at = [0, 1000]}
device = {name = "mine", lut = 9, lutram = 8, flip_flops = 7, bram36 = 6, dsp = 5}
clock_mhz = 50.0
"""
SIZES: dict[str, Any] = {
    "layers": [64, 32, 8],
    "fan_out": [2, 2],
    "lanes": [16, 8],
    "number": {"integer_bits": 2, "fraction_bits": 7},
}


def test_a_file_says_everything(tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text(TEXT)
    machine = read_machine(path)
    assert (machine.layers, machine.lanes, machine.cycle_clocks) == ((64, 32, 8), (16, 8), 12)
    assert machine.number == FixedPoint(2, 7)
    assert machine.hidden_activation == "relu"
    assert machine.rate == LearningRate((4, 5), (0, 1000))
    assert machine.device == Device("mine", 9, 8, 7, 6, 5)
    assert machine.clock_mhz == 50


def test_a_preset_can_be_changed() -> None:
    machine = machine_from({"preset": "mnist-12bit", "pipeline_clocks": 2, "device": "xcku060"})
    assert (machine.cycle_clocks, machine.device.dsp) == (36, 2760)
    machine = machine_from({"preset": "small", "pattern": {"kind": 2, "seed": 1}})
    assert machine.layers == (64, 16, 4)
    assert [pattern.spec["kind"] for pattern in machine.patterns] == [2, 2]


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_patterns_are_drawn(kind: int) -> None:
    machine = machine_from({**SIZES, "pattern": {"kind": kind, "seed": 5}})
    assert [pattern.spec["kind"] for pattern in machine.patterns] == [kind, kind]
    assert all(issue.clashes == () for issue in machine.issues)


@pytest.mark.parametrize(
    ("described", "text"),
    [
        (
            {**SIZES, "lane": [1]},
            "a machine has no 'lane' (nearest: lanes); known: preset, layers, fan_out, lanes, "
            "number, pipeline_clocks, hidden_activation, rate, hazards, device, clock_mhz, "
            "winner_skips_last_clock, table_minimum, max_table_entries, starts, pattern",
        ),
        (
            {"layers": [4, 2], "fan_out": [1]},
            "a machine needs layers, fan_out, lanes, number (or a preset); lanes, number missing",
        ),
        (
            {**SIZES, "number": {"integer_bit": 2}},
            "number has no 'integer_bit' (nearest: integer_bits); known: integer_bits, "
            "fraction_bits, rounds_after_clip",
        ),
        (
            {**SIZES, "lanes": "16,8"},
            "lanes must be a list of whole numbers, such as [4, 16], got '16,8'",
        ),
        (
            {**SIZES, "fan_out": 2},
            "fan_out must be a list of whole numbers, such as [4, 16], got 2",
        ),
        ({**SIZES, "clock_mhz": "fast"}, "clock_mhz must be a number, got 'fast'"),
        (
            {**SIZES, "winner_skips_last_clock": "no"},
            "winner_skips_last_clock must be true or false, got 'no'",
        ),
        ({**SIZES, "pattern": 2}, "pattern must be a table of kind, dither, seed, got 2"),
        (
            {**SIZES, "number": {"integer_bits": 2.5, "fraction_bits": 7}},
            "number needs integer_bits, fraction_bits, rounds_after_clip: integer_bits must be a "
            "whole number, got 2.5",
        ),
        (
            {**SIZES, "number": 12},
            "number must be a table of integer_bits, fraction_bits, rounds_after_clip, got 12",
        ),
        (
            {**SIZES, "starts": [None, None], "pattern": {"kind": 1}},
            "pattern and starts both choose the edges; leave one out",
        ),
        (
            {**SIZES, "fan_out": [2], "pattern": {"kind": 1}},
            "2 junctions need as many fan_out and lanes, got 1 and 2",
        ),
        (
            {**SIZES, "pattern": {"kinds": 1}},
            "pattern has no 'kinds' (nearest: kind); known: kind, dither, seed",
        ),
    ],
)
def test_errors(described: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        machine_from(described)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text("layers = [")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: Invalid value"):
        read_machine(path)
    path.write_text('number = {integer_bits = 2}\npreset = "small"')
    with pytest.raises(
        ValueError,
        match=rf"^{re.escape(str(path))}: number needs integer_bits, fraction_bits, "
        r"rounds_after_clip: .*missing 1 required positional argument: 'fraction_bits'$",
    ):
        read_machine(path)

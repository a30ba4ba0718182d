"""Machines: published clocks and shapes, general ones, errors that name the way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dnc_hw.devices import Device, device
from dnc_hw.edges import rtl_order
from dnc_hw.events import Access, MemoryKind
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.learning_rate import LearningRate
from dnc_hw.machine import Machine
from dnc_hw.memory import Memory
from dnc_hw.presets import PRESETS, preset
from dnc_sparse.patterns import clash_free, random

NUMBER = FixedPoint(2, 7)


@pytest.mark.parametrize(
    ("name", "clocks"),
    [
        ("mnist-12bit", 34),
        ("mnist-12bit-pipelined", 36),
        ("small", 6),
        ("mnist-original", 18),
        ("mnist-64-outputs", 66),
        ("test-deep", 10),
        ("test-shallow", 6),
    ],
)
def test_published_clocks(name: str, clocks: int) -> None:
    assert preset(name).cycle_clocks == clocks


def test_every_preset_is_legal() -> None:
    for name, chosen in PRESETS.items():
        machine = preset(name)
        assert machine.layers == chosen.layers
        assert machine.lanes == chosen.lanes
        assert [order.pattern.fan_out for order in machine.orders] == list(chosen.fan_out)
        # all junctions take as long
        assert len({issue.clocks for issue in machine.issues}) == 1


@pytest.mark.parametrize(("lanes", "clocks"), [((64, 16), 66), ((32, 8), 130), ((256, 64), 18)])
def test_lanes_below_fan_in_and_memories_of_one_word(lanes: tuple[int, int], clocks: int) -> None:
    assert preset("mnist-12bit", lanes=lanes).cycle_clocks == clocks


def test_unequal_junctions_wait_for_the_longest() -> None:
    machine = preset("mnist-12bit", lanes=(128, 64))
    assert [issue.clocks for issue in machine.issues] == [32, 16]
    assert machine.cycle_clocks == 34


def test_a_port_serves_one_access_a_clock() -> None:
    memory = Memory(MemoryKind.slope, 1, banks=2, lanes=2, depth_words=2, ports=1)
    lane, word = np.array([0, 1]), np.array([0, 0])
    memory.write((0, 0), Access.write, 1, lane, word, np.array([5, 6]), 0)
    assert memory.read((0, 0), Access.update_read, 0, lane, word, 0).tolist() == [0, 0]
    assert memory.read((0, 1), Access.update_read, 1, lane, word, 0).tolist() == [5, 6]
    with pytest.raises(AssertionError, match=r"^slope 1, bank 1: no free port$"):
        memory.read((0, 1), Access.update_read, 1, lane, word, 0)


def two(hazards: str, **options: Any) -> Machine:
    return preset("mnist-12bit-pipelined", hazards=hazards, **options)


def misfit() -> Machine:
    return Machine((rtl_order(8, 4, 2, 4), rtl_order(8, 4, 2, 4)), NUMBER)


def clashing() -> Machine:
    pattern = random(16, 8, density=0.5, seed=1)
    return Machine.from_patterns([pattern], [4], NUMBER, hazards="reject")


def blocked() -> Machine:
    patterns = [clash_free(16, 8, fan_in=4, banks=8), clash_free(8, 4, fan_in=4, banks=4)]
    return Machine.from_patterns(patterns, [8, 4], NUMBER, winner_skips_last_clock=False)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Machine((), NUMBER), "a machine needs at least one junction, got none"),
        (
            misfit,
            "junction 1 ends in 4 neurons but junction 2 begins with 8; give both the same layer",
        ),
        (
            lambda: preset("small", pipeline_clocks=-1),
            "pipeline_clocks must not be negative, got -1; the published designs have 0 and 2",
        ),
        (
            lambda: preset("small", hazards="ignore"),
            "unknown hazard policy 'ignore'; choose reject, stall, forward, emulate",
        ),
        (lambda: preset("small", clock_mhz=0.0), "clock_mhz must be positive, got 0"),
        (
            lambda: preset("small", rate=LearningRate((9,))),
            "learning-rate code 9 is none of format (1, 2, 7); choose 0 (no update) or 1 to 8 "
            "(eta = 2^-(code - 1)), nearest 8",
        ),
        (
            lambda: preset("small", table_minimum=2),
            "a sigmoid table starts at 0 or 1 LSB, got 2",
        ),
        (
            lambda: preset("mnist-12bit", lanes=(128, 48)),
            "junction 2: 64 left neurons cannot be spread over 48 lanes; choose a divisor of 64, "
            "such as 32 or 64",
        ),
        (
            lambda: preset("mnist-12bit", lanes=(128, 32, 1)),
            "2 junctions need 2 lanes, got 3",
        ),
        (
            lambda: preset("mnist-12bit", lanes=(512, 4)),
            "junction 1 completes 8 neurons in clock 0, which 4 interleaved memories of junction 2 "
            "cannot absorb at once; take at least 8 lanes in junction 2, such as 4 or 8, or fewer "
            "in junction 1",
        ),
        (
            blocked,
            "junction 1 completes 2 neurons in clock 0, which 4 blocked memories of junction 2 "
            'cannot absorb at once; draw its pattern with bank_map="interleaved"',
        ),
        (
            lambda: two("reject"),
            "junction 2 reads the partial delta of memory 0, word 0 in clock 2, 2 after clock 0, "
            "before its write has landed (960 such hazards); 4 clocks are needed: take fewer lanes "
            "(memories at least 4 words deep), a pipeline depth of at most 0, or another hazard "
            "policy",
        ),
        (
            lambda: Machine.from_sizes((8, 4), (2,), (16,), NUMBER),
            "junction 1: 8 left neurons cannot be spread over 16 lanes; choose a divisor of 8, "
            "such as 8",
        ),
        (
            lambda: preset("small", lanes=(32, 32)),
            "junction 2: 16 left neurons cannot be spread over 32 lanes; choose a divisor of 16, "
            "such as 16",
        ),
        (
            lambda: Machine.from_sizes((4, 2), (1,), (4,), NUMBER),
            "all 2 outputs are computed in one clock, and the published winner search ignores "
            "those of the last; set winner_skips_last_clock=False",
        ),
        (
            lambda: preset("mnist-12bits"),
            "unknown preset 'mnist-12bits' (nearest: mnist-12bit); choose one of "
            + ", ".join(PRESETS)
            + ", or describe a machine of your own in a .toml file",
        ),
        (
            lambda: device("xc7a100"),
            "unknown device 'xc7a100'; known devices: xc7a100t, xc7a35t, xcku060 (nearest: "
            "xc7a100t), or describe your own with dnc_hw.Device",
        ),
        (
            lambda: Device("mine", -1, 0, 0, 0, 0),
            "device 'mine' cannot have -1 lut; give 0 or more",
        ),
    ],
)
def test_errors(build: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        build()


def test_reject_names_the_first_clash() -> None:
    with pytest.raises(
        ValueError,
        match=r"^junction 1 reads memory \d \d times in row \d \(\d+ clashes in all\); choose a "
        r"clash_free pattern, or another hazard policy$",
    ):
        clashing()

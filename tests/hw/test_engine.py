"""The compiled engine equals the readable model in every value, clock and event."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hw.machines import machines, random_parameters, random_stimuli
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_hw.engine import Engine, instruction_sets
from dnc_hw.events import as_table
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.issue import HazardPolicy
from dnc_hw.machine import Machine
from dnc_hw.model import Model
from dnc_hw.presets import preset
from dnc_hw.trace import Parameters, Trace


def assert_equal_traces(found: Trace, expected: Trace) -> None:
    assert found.clocks == expected.clocks
    assert np.array_equal(found.winners, expected.winners)
    ours, theirs = found.vectors, expected.vectors
    assert ours is not None
    assert theirs is not None
    for name in ("activations", "slopes", "deltas", "codes"):
        for i, (a, b) in enumerate(zip(getattr(ours, name), getattr(theirs, name), strict=True)):
            assert np.array_equal(a, b), f"{name} of junction {i + 1}"
    assert np.array_equal(ours.output_delta, theirs.output_delta)


def assert_equal_parameters(found: Parameters, expected: Parameters) -> None:
    for a, b in zip(found.weights + found.biases, expected.weights + expected.biases, strict=True):
        assert np.array_equal(a, b)


def assert_equal_issues(engine: Engine, machine: Machine) -> None:
    for found, expected in zip(engine.compiled.issues, machine.issues, strict=True):
        assert found.clocks == expected.clocks
        assert found.clash_stalls == expected.clash_stall_clocks
        assert found.hazard_stalls == expected.hazard_stall_clocks
        assert found.clashes == list(expected.clashes)
        assert found.hazards == list(expected.hazards)
        assert found.steps == [(step.clock, step.edges.tolist()) for step in expected.steps]


@given(
    machines(),
    st.integers(0, 2**32),
    st.sampled_from([0.05, 0.3, 1.0]),
    st.sampled_from(instruction_sets()),
)
@settings(max_examples=100, deadline=None)
def test_engine_equals_the_model(
    machine: Machine, seed: int, scale: float, instruction_set: str
) -> None:
    parameters = random_parameters(machine, seed, scale)
    model = Model(machine, parameters, log_events=True)
    engine = Engine(machine, parameters, instruction_set=instruction_set)
    assert_equal_issues(engine, machine)
    first = 0
    for run, cycles in enumerate((machine.junctions + 2, 7)):
        stimuli = random_stimuli(machine, cycles, seed + run)
        expected = model.run(*stimuli, record=True)
        assert_equal_traces(engine.run(*stimuli, record=True), expected)
        assert_equal_parameters(engine.parameters(), model.parameters())
        assert engine.saturation() == model.saturation()
        assert np.array_equal(engine.events(first, cycles), as_table(model.events))
        model.log.clear()
        first += cycles
    assert engine.cycle == model.cycle == first


def test_published_machine_over_many_inputs() -> None:
    machine = preset("test-shallow", pipeline_clocks=2, hazards="emulate")
    parameters = random_parameters(machine, 1, 0.2)
    stimuli = random_stimuli(machine, 100, 2)
    expected = Model(machine, parameters).run(*stimuli, record=True)
    assert_equal_traces(Engine(machine, parameters).run(*stimuli, record=True), expected)


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("rounds_after_clip", [True, False])
@pytest.mark.parametrize("fraction_bits", [3, 18])
@pytest.mark.parametrize("hazards", ["forward", "emulate"])
def test_units_that_saturate(
    hazards: HazardPolicy, fraction_bits: int, rounds_after_clip: bool, instruction_set: str
) -> None:
    # dense layers of large weights; random machines seldom clip products and partial deltas
    number = FixedPoint(1, fraction_bits, rounds_after_clip=rounds_after_clip)
    machine = Machine.from_sizes(
        *((16, 16, 16, 8), (16, 16, 8), (16, 16, 16), number),
        pipeline_clocks=1,
        hazards=hazards,
        hidden_activation="relu",
        winner_skips_last_clock=False,
    )
    parameters = random_parameters(machine, 1)
    pixels, labels, codes = random_stimuli(machine, 150, 2)
    # eta = 1: the smallest delta has no negative
    for its_codes in (codes, np.ones_like(codes)):
        model = Model(machine, parameters)
        engine = Engine(machine, parameters, instruction_set=instruction_set)
        expected = model.run(pixels, labels, its_codes, record=True)
        assert_equal_traces(engine.run(pixels, labels, its_codes, record=True), expected)
        assert_equal_parameters(engine.parameters(), model.parameters())
        assert engine.saturation() == model.saturation()
        if its_codes is codes:
            assert all(sum(counts) > 0 for counts in zip(*engine.saturation(), strict=True))
    assert expected.vectors is not None
    assert min(deltas.min() for deltas in expected.vectors.deltas) == number.smallest


def test_unknown_instruction_set() -> None:
    machine = preset("small")
    text = f"instruction set 'mmx' does not run here; choose {', '.join(instruction_sets())}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Engine(machine, random_parameters(machine, 0), instruction_set="mmx")

"""Simulated clocks per second of the hardware engine, in training, per instruction set.

The machine is the published one for MNIST: (1024, 64, 32), 128 and 32 lanes, 12 bits, 34 clocks per
input. A quarter of the pixels is lit, about as many as in MNIST with its padding.
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from dnc_hw import Engine, Model, initial_parameters, preset
from dnc_hw.engine import instruction_sets

INPUTS = 1000
CHECKED = 6


@pytest.mark.benchmark(group="hw engine, clocks")
@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_training(benchmark: BenchmarkFixture, instruction_set: str) -> None:
    machine = preset("mnist-12bit")
    parameters = initial_parameters(machine)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (INPUTS, machine.n_in), dtype=np.uint8)
    pixels[rng.random(pixels.shape) > 0.25] = 0
    labels, codes = rng.integers(0, 10, INPUTS), np.full(INPUTS, 4)

    first = slice(CHECKED)
    expected = Model(machine, parameters).run(pixels[first], labels[first], codes[first])
    engine = Engine(machine, parameters, instruction_set=instruction_set)
    found = engine.run(pixels[first], labels[first], codes[first])
    assert np.array_equal(found.winners, expected.winners)

    trace = benchmark(engine.run, pixels, labels, codes)
    benchmark.extra_info["clocks"] = trace.clocks

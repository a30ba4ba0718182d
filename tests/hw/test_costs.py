"""Storage, resources, rates and energy against what was published."""

from __future__ import annotations

import numpy as np
import pytest

from dnc_hw.devices import DEVICES, Device
from dnc_hw.events import MemoryKind
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.model import Model
from dnc_hw.parameters import initial_parameters
from dnc_hw.presets import preset
from dnc_hw.rates import OperationEnergy, activity_of, energy_of, rates_of
from dnc_hw.resources import resources_of, round_clip_lut
from dnc_hw.storage import stored_items, total_bits, total_words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jetcas-dense", 85_930),
        ("jetcas-sparse", 21_930),
        ("mnist-12bit", 10_912),
    ],
)
def test_published_words(name: str, words: int) -> None:
    assert total_words(preset(name)) == words


def test_words_of_the_dense_network() -> None:
    dense = preset("mnist-12bit", fan_out=(64, 32), lanes=(1024, 32))
    assert total_words(dense) == 73_376


def test_words_and_bits_by_memory() -> None:
    machine = preset("mnist-12bit")
    words: dict[str, int] = {}
    for item in stored_items(machine):
        words[item.name] = words.get(item.name, 0) + item.words
    assert words == {
        "inputs": 5120,
        "activations": 192,
        "slopes": 192,
        "deltas": 192,
        "biases": 96,
        "weights": 5120,
    }
    assert total_bits(machine) == 110_464


@pytest.mark.parametrize(
    ("name", "bram36"),
    [("mnist-10bit-i2", 37.5), ("mnist-64-outputs", 9.5), ("mnist-original", 39)],
)
def test_published_block_memory(name: str, bram36: float) -> None:
    assert abs(resources_of(preset(name)).bram36 - bram36) <= 0.5


@pytest.mark.parametrize(
    ("name", "predicted", "reported"),
    [
        ("mnist-10bit-i2", 7576, 7743),
        ("mnist-10bit-i3", 7384, 7103),
        ("mnist-16bit", 8996, 9431),
        ("small", 1568, 1560),
        # the report's synthesis trimmed input bits
        ("mnist-8bit", 7192, 6075),
    ],
)
def test_published_distributed_memory(name: str, predicted: int, reported: int) -> None:
    lutram = resources_of(preset(name)).lutram
    assert lutram == predicted
    assert abs(lutram / reported - 1) < (0.05 if name != "mnist-8bit" else 0.19)


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("mnist-8bit", 24_020),
        ("mnist-10bit-i3", 40_441),
        ("mnist-10bit-i2", 46_168),
        ("mnist-16bit", 71_000),
    ],
)
def test_the_estimate_of_logic_is_within_a_quarter(name: str, reported: int) -> None:
    found = resources_of(preset(name))
    assert found.dsp == 224
    assert abs(found.lut_estimate / reported - 1) < 0.25


def test_estimates_that_the_documentation_quotes() -> None:
    quoted = [((2, 5), 7_067), ((2, 7), 9_171), ((3, 8), 12_611), ((4, 11), 18_891)]
    for bits, lut in quoted:
        machine = preset("mnist-12bit", lanes=(32, 8), number=FixedPoint(*bits))
        assert resources_of(machine).lut_estimate == lut


def test_devices() -> None:
    wanted = resources_of(preset("mnist-12bit"))
    assert wanted.shortage(DEVICES["xc7a100t"]) == {}
    assert wanted.shortage(DEVICES["xc7a35t"]) == {
        "dsp": 134,
        "lut_estimate": wanted.lut_estimate - 20_800,
    }
    tiny = Device("tiny", 10**6, 10**6, 10**6, 40, 10**6)
    assert wanted.shortage(tiny) == {"bram36": 2.25}


def test_deep_and_narrow_memories() -> None:
    # 130 rows leave distributed memory: half a block for each of 40 weight and 2 bias memories
    slow = preset("mnist-12bit", lanes=(32, 8))
    fast = preset("mnist-12bit")
    tables = 2 * 2
    assert resources_of(slow, label_memory=False).bram36 == 8 + tables + (40 + 2) / 2
    assert resources_of(fast, label_memory=False).bram36 == 32 + 3 * 2
    assert round_clip_lut(8) == 7
    assert round_clip_lut(14) == 26
    assert round_clip_lut(32) == 60
    assert round_clip_lut(5) == 4


def test_published_rates() -> None:
    found = rates_of(preset("mnist-12bit"))
    assert round(found.input_us, 3) == 2.267
    assert int(found.inputs_per_s) == 441_176
    assert round(found.epoch_ms(12_544), 2) == 28.43
    assert found.inference_latency_us == pytest.approx(3 * found.input_us)
    assert found.training_latency_us == pytest.approx(5 * found.input_us)
    assert round(found.input_mb_per_s) == 452
    assert found.peak_input_mb_per_s == 480
    assert round(rates_of(preset("mnist-12bit-pipelined")).epoch_ms(12_544), 1) == 30.1


@pytest.mark.parametrize("name", ["test-deep", "small", "mnist-12bit"])
def test_activity_is_what_the_model_does(name: str) -> None:
    machine = preset(name)
    model = Model(machine, initial_parameters(machine))
    nothing = np.zeros(1, dtype=np.int64)
    model.run(np.zeros((1, machine.n_in), dtype=np.uint8), nothing, nothing)
    bits = 0
    for memory in model.memories():
        inputs = memory.kind is MemoryKind.activation and memory.place == 0
        bits += memory.accessed_words * (8 if inputs else machine.number.width_bits)
    assert activity_of(machine).memory_bits == bits
    edges = [order.n_edges for order in machine.orders]
    assert activity_of(machine).multiplications == 2 * sum(edges) + 2 * edges[1]


def test_energy_follows_activity_and_says_it_is_uncalibrated() -> None:
    machine = preset("mnist-12bit")
    found = energy_of(machine)
    assert not found.calibrated
    assert found.input_nj == found.multiply_nj + found.add_nj + found.memory_nj
    static = energy_of(machine, OperationEnergy(0, 0, 0, static_w=0.5))
    assert static.input_nj == pytest.approx(0.5 * 34 / 15e6 * 1e9)

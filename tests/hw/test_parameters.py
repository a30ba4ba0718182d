"""Initial parameters, and those of trained layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hw.machines import random_parameters

from dnc_hw.engine import Engine
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.machine import Machine
from dnc_hw.parameters import initial_parameters, parameters_from, write_parameters
from dnc_hw.presets import preset
from dnc_hw.trace import Parameters
from dnc_sparse.nn import SparseLinear
from dnc_sparse.patterns import clash_free


def layers_of(machine: Machine, *, bias: bool = True) -> list[SparseLinear]:
    return [SparseLinear(p.n_in, p.n_out, pattern=p, bias=bias) for p in machine.patterns]


def test_one_vector_fills_all_memories() -> None:
    machine = preset("mnist-12bit")
    parameters = initial_parameters(machine, seed=1)
    memories = zip(machine.orders, parameters.weights, parameters.biases, strict=True)
    for order, w, b in memories:
        rows = w.reshape(order.rows, order.lanes)
        assert (rows == rows[:, :1]).all()
        assert np.array_equal(b.reshape(order.rows, -1), rows[:, : order.n_out // order.rows])


def test_own_values_have_the_published_spread() -> None:
    machine = preset("mnist-12bit")
    weights = initial_parameters(machine, shared=False).weights
    for w, (fan_in, fan_out) in zip(weights, ((64, 4), (32, 16)), strict=True):
        assert np.isclose(w.std() / 256, np.sqrt(2 / (fan_in + fan_out)), rtol=0.06)
    assert len(np.unique(weights[0])) > 32


def test_layers_and_back() -> None:
    number = FixedPoint(3, 8)
    patterns = [
        clash_free(32, 16, fan_in=8, banks=8, kind=2, bank_map="interleaved", seed=1),
        clash_free(16, 8, fan_in=4, banks=4, kind=1, bank_map="interleaved", seed=2),
    ]
    machine = Machine.from_patterns(patterns, [8, 4], number)
    parameters = random_parameters(machine, seed=3)
    layers = layers_of(machine)
    write_parameters(machine, parameters, layers)
    for layer, order, words in zip(layers, machine.orders, parameters.weights, strict=True):
        dense = layer.to_dense().weight.detach().numpy()
        assert np.array_equal(dense[order.right, order.left] * 256, words)
    back = parameters_from(machine, layers)
    for found, given in zip(
        back.weights + back.biases, parameters.weights + parameters.biases, strict=True
    ):
        assert np.array_equal(found, given)
    without = parameters_from(machine, layers_of(machine, bias=False))
    assert not without.biases[0].any()


def test_layers_that_do_not_fit() -> None:
    machine = preset("small")
    parameters = initial_parameters(machine)
    layers = layers_of(machine)
    with pytest.raises(ValueError, match=r"^1 layers do not fit a machine of 2$"):
        parameters_from(machine, layers[:1])
    other = SparseLinear(64, 16, pattern=clash_free(64, 16, fan_in=8, banks=32))
    with pytest.raises(ValueError, match=r"^layer 1 has Pattern\(clash_free, .*, junction 1 Patt"):
        parameters_from(machine, [other, layers[1]])
    with pytest.raises(ValueError, match=r"^layer 1 has no bias to take those of junction 1; bui"):
        write_parameters(machine, parameters, layers_of(machine, bias=False))
    with torch.no_grad():
        layers[0].weight.fill_(100.0)
    with pytest.raises(ValueError, match=r"^values 0 to 100 leave the range of format \(1, 2, 7\)"):
        parameters_from(machine, layers)
    assert parameters_from(machine, layers, clip=True).weights[0].min() == 511


def test_parameters_that_do_not_fit() -> None:
    machine = preset("small")
    good = initial_parameters(machine)
    with pytest.raises(ValueError, match=r"^parameters of 1 junctions cannot fill a machine of 2$"):
        Engine(machine, Parameters(good.weights[:1], good.biases[:1]))
    with pytest.raises(ValueError, match=r"^junction 2 has 32 weights, got shape \[128\]$"):
        Engine(machine, Parameters((good.weights[0], good.weights[0]), good.biases))
    wrong = (good.weights[0] + 600, good.weights[1])
    with pytest.raises(
        ValueError, match=r"^weights of junction 1 lie in .* LSB, outside format \(1, 2, 7\), -512"
    ):
        Engine(machine, Parameters(wrong, good.biases))

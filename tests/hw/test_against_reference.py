"""In wide numbers the machine trains as dnc_sparse does: plainly, or with its stated delays.

What is left of the fixed point is the sigmoid table (the entry below the sum, at most a quarter of
a table step too low) and products rounded to 2^-21, far finer; each input adds at most two table
steps to any parameter.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from dnc_hw import schedule
from dnc_hw.engine import Engine
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.machine import Machine
from dnc_hw.parameters import initial_parameters, write_parameters
from dnc_hw.trace import NO_LABEL, Parameters
from dnc_sparse import backends
from dnc_sparse.backends import reference
from dnc_sparse.nn import SparseLinear
from dnc_sparse.patterns import clash_free

INPUTS = 40
CODE = 3
ETA = 2.0 ** -(CODE - 1)
ENTRIES = 2**20
TOLERANCE = INPUTS * 2 * 16 / ENTRIES


def wide_machine(activation: str, layers: tuple[int, ...] = (32, 16, 8, 4)) -> Machine:
    patterns = [
        clash_free(n_in, n_out, fan_in=n_in // 2, banks=4, bank_map="interleaved", kind=1, seed=i)
        for i, (n_in, n_out) in enumerate(pairwise(layers))
    ]
    return Machine.from_patterns(
        patterns,
        [4] * len(patterns),
        FixedPoint(10, 21),
        hazards="forward",
        hidden_activation=activation,  # type: ignore[arg-type]
        max_table_entries=ENTRIES,
    )


def stimuli(machine: Machine) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 256, (INPUTS, machine.n_in), dtype=np.uint8)
    return pixels, rng.integers(0, machine.n_out, INPUTS)


def layers_with(machine: Machine, parameters: Parameters) -> list[SparseLinear]:
    layers = [
        SparseLinear(p.n_in, p.n_out, pattern=p, dtype=torch.float64) for p in machine.patterns
    ]
    write_parameters(machine, parameters, layers)
    return layers


def hidden(machine: Machine, s: Tensor) -> Tensor:
    return s.clamp(0, 1) if machine.hidden_activation == "relu" else s.sigmoid()


def run(machine: Machine, spacing: int) -> tuple[Parameters, Parameters]:
    """Train on the inputs, `spacing` cycles apart; parameters before and after."""
    pixels, labels = stimuli(machine)
    start = initial_parameters(machine, seed=5, shared=False)
    cycles = INPUTS * spacing + schedule.update_delay(machine.junctions, 1)
    inputs = np.zeros((cycles, machine.n_in), dtype=np.uint8)
    targets, codes = np.full(cycles, NO_LABEL), np.zeros(cycles, dtype=np.int64)
    loaded = np.arange(INPUTS) * spacing
    inputs[loaded], targets[loaded], codes[loaded] = pixels, labels, CODE
    engine = Engine(machine, start)
    engine.run(inputs, targets, codes)
    return start, engine.parameters()


def plain_sgd(machine: Machine, start: Parameters) -> list[SparseLinear]:
    """Train with autograd and torch's optimiser, one input at a time."""
    pixels, labels = stimuli(machine)
    layers = layers_with(machine, start)
    optimiser = torch.optim.SGD([p for layer in layers for p in layer.parameters()], lr=ETA)
    with backends.use_backend("reference"):
        for image, label in zip(torch.from_numpy(pixels).double() / 256, labels, strict=True):
            x = image[None]
            for layer in layers[:-1]:
                x = hidden(machine, layer(x))
            target = torch.nn.functional.one_hot(torch.tensor([label]), machine.n_out).double()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                layers[-1](x), target, reduction="sum"
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return layers


@torch.no_grad()
def delayed_sgd(machine: Machine, start: Parameters) -> list[SparseLinear]:
    """Train with gradients that meet weights as late as the note of the schedule says."""
    pixels, labels = stimuli(machine)
    layers, last = layers_with(machine, start), machine.junctions
    a = {(0, n): torch.from_numpy(row).double()[None] / 256 for n, row in enumerate(pixels)}
    slope: dict[tuple[int, int], Tensor] = {}
    delta: dict[tuple[int, int], Tensor] = {}
    for t in range(INPUTS + 2 * last + 1):
        steps = []
        for i, layer in enumerate(layers, 1):
            forward, update = t - i, t - (2 * last + 1 - i)
            pattern, weight = layer.pattern, layer.weight
            if 0 <= forward < INPUTS:
                s = reference.forward(a[i - 1, forward], weight, layer.bias, pattern)
                if i == last:
                    target = torch.zeros_like(s)
                    target[0, labels[forward]] = 1
                    delta[i, forward] = s.sigmoid() - target
                else:
                    y = hidden(machine, s)
                    inside = ((s > 0) & (s < 1)).double()
                    relu = machine.hidden_activation == "relu"
                    a[i, forward], slope[i, forward] = y, inside if relu else y * (1 - y)
            if 0 <= update < INPUTS:
                grad = delta[i, update]
                if i > 1:
                    back = reference.grad_input(grad, weight, pattern)
                    delta[i - 1, update] = back * slope[i - 1, update]
                steps.append((layer, grad, a[i - 1, update]))
        for layer, grad, x in steps:
            layer.weight -= ETA * reference.grad_weight(grad, x, layer.pattern)
            assert layer.bias is not None
            layer.bias -= ETA * grad[0]
    return layers


def largest_difference(
    machine: Machine, parameters: Parameters, layers: list[SparseLinear]
) -> float:
    found = layers_with(machine, parameters)
    return max(
        float((a - b).detach().abs().max())
        for ours, theirs in zip(found, layers, strict=True)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_inputs_apart_train_as_plain_sgd(activation: str) -> None:
    machine = wide_machine(activation)
    start, end = run(machine, spacing=schedule.training_latency_cycles(machine.junctions))
    plain = plain_sgd(machine, start)
    assert largest_difference(machine, end, plain) < TOLERANCE
    assert largest_difference(machine, start, plain) > 100 * TOLERANCE


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_inputs_in_a_row_train_with_the_stated_delays(activation: str) -> None:
    machine = wide_machine(activation)
    start, end = run(machine, spacing=1)
    assert largest_difference(machine, end, delayed_sgd(machine, start)) < TOLERANCE
    # the delays show
    assert largest_difference(machine, end, plain_sgd(machine, start)) > 10 * TOLERANCE

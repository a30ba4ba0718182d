"""Parameters of a machine from nothing, from trained layers, and back.

| name    | meaning                                        | shape                   |
|---------|------------------------------------------------|-------------------------|
| weights | words of a junction, in processing order       | [edges]                 |
| biases  | words of its right neurons                     | [n_out]                 |
| shared  | one vector for every memory of a junction      | [rows], C in the papers |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dnc_hw.edges import EdgeOrder
from dnc_hw.fixed_point import FixedPoint, Ints
from dnc_hw.machine import Machine
from dnc_hw.trace import Parameters

if TYPE_CHECKING:
    from dnc_sparse.nn import SparseLinear


def initial_parameters(machine: Machine, seed: int = 0, *, shared: bool = True) -> Parameters:
    """Draw normal weights and biases with variance 2 / (fan_in + fan_out), clipped and truncated.

    As published, one vector initialises every weight and bias memory of a junction, so that it has
    only as many different values as rows; without `shared` every edge and neuron has its own.
    """
    rng = np.random.default_rng(seed)
    weights, biases = zip(
        *(_drawn(order, machine.number, rng, shared) for order in machine.orders), strict=True
    )
    return Parameters(weights, biases)


def parameters_from(
    machine: Machine, layers: Sequence[SparseLinear], *, clip: bool = False
) -> Parameters:
    """Round the weights and biases of layers to words; a layer without bias gives zeros.

    Raises ValueError for layers whose patterns are not the machine's, and for values outside the
    number range unless they may be clipped.
    """
    _check_layers(machine, layers)
    number, weights, biases = machine.number, [], []
    for order, layer in zip(machine.orders, layers, strict=True):
        values = layer.weight.detach().double().cpu().numpy().reshape(-1)
        weights.append(number.from_real(values[order.slot], clip=clip))
        bias = np.zeros(order.n_out)
        if layer.bias is not None:
            bias = layer.bias.detach().double().cpu().numpy()
        biases.append(number.from_real(bias, clip=clip))
    return Parameters(tuple(weights), tuple(biases))


def write_parameters(
    machine: Machine, parameters: Parameters, layers: Sequence[SparseLinear]
) -> None:
    """Write a machine's weights and biases into layers, in place.

    Raises ValueError for layers whose patterns are not the machine's or that have no bias.
    """
    parameters.check(machine)
    _check_layers(machine, layers)
    # there is a layer, so torch is there
    import torch

    number = machine.number
    for i, (order, layer) in enumerate(zip(machine.orders, layers, strict=True)):
        if layer.bias is None:
            raise ValueError(
                f"layer {i + 1} has no bias to take those of junction {i + 1}; "
                f"build it with bias=True"
            )
        slots = np.zeros(order.pattern.sources.size)
        slots[order.slot] = number.to_real(parameters.weights[i])
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(slots).reshape(layer.weight.shape))
            layer.bias.copy_(torch.from_numpy(number.to_real(parameters.biases[i])))


def _drawn(
    order: EdgeOrder, number: FixedPoint, rng: np.random.Generator, shared: bool
) -> tuple[Ints, Ints]:
    deviation = np.sqrt(2 / (order.pattern.fan_in + order.pattern.fan_out))

    def draw(count: int) -> Ints:
        words = np.trunc(rng.normal(0, deviation, count) * number.one)
        return number.clip(words.astype(np.int64))

    if not shared:
        return draw(order.n_edges), draw(order.n_out)
    vector = draw(order.rows)
    last_edge = np.searchsorted(order.right, np.arange(order.n_out), side="right") - 1
    edge = np.arange(order.n_edges)
    return vector[edge // order.lanes], vector[last_edge // order.lanes]


def _check_layers(machine: Machine, layers: Sequence[SparseLinear]) -> None:
    if len(layers) != machine.junctions:
        raise ValueError(f"{len(layers)} layers do not fit a machine of {machine.junctions}")
    for i, (order, layer) in enumerate(zip(machine.orders, layers, strict=True), 1):
        if layer.pattern != order.pattern:
            raise ValueError(
                f"layer {i} has {layer.pattern!r}, junction {i} {order.pattern!r}; build one for "
                f"the other's pattern"
            )

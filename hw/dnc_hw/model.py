"""The readable model: every memory port of every clock, the oracle of the fast engine.

A junction cycle runs clock by clock. In each clock all units fetch the words of the step they issue
(`JunctionUnit.fetch`), then retire the step that has passed the pipeline (`JunctionUnit.retire`),
so that a read sees what was stored before the clock's writes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from dnc_hw import schedule
from dnc_hw.events import Access, Event, Logged, MemoryKind
from dnc_hw.fixed_point import Ints
from dnc_hw.junction_unit import JunctionUnit, Layer
from dnc_hw.machine import Machine
from dnc_hw.memory import Memory
from dnc_hw.saturation import Saturation
from dnc_hw.trace import (
    NO_LABEL,
    Parameters,
    Pixels,
    Trace,
    Vectors,
    check_run,
    empty_vectors,
)


@dataclass
class _Travelling:
    """What travels with an input: its label and its learning-rate code."""

    label: int = NO_LABEL
    code: int = 0


class Model:
    """A machine with its contents, simulated clock by clock.

    `log` collects the accesses of all ports where it is asked for.

    Raises ValueError for parameters that do not fit the machine.
    """

    def __init__(
        self, machine: Machine, parameters: Parameters, *, log_events: bool = False
    ) -> None:
        parameters.check(machine)
        self.machine = machine
        self.cycle = 0
        self.log: list[Logged] = []
        self._layers = _layers(machine)
        self._loads = _loads(machine)
        self._units = [
            JunctionUnit(machine, i, self._layers[i], self._layers[i + 1])
            for i in range(machine.junctions)
        ]
        for unit, weights, biases in zip(
            self._units, parameters.weights, parameters.biases, strict=True
        ):
            unit.set_parameters(weights, biases)
        if log_events:
            for memory in self.memories():
                memory.log = self.log
        oldest = schedule.training_latency_cycles(machine.junctions)
        self._inputs = deque([_Travelling()] * oldest, maxlen=oldest)

    def run(self, inputs: Pixels, labels: Ints, codes: Ints, *, record: bool = False) -> Trace:
        """Load one input per junction cycle; see `trace.Simulator`."""
        check_run(self.machine, inputs, labels, codes)
        winners, clocks = np.empty(len(inputs), dtype=np.int64), 0
        vectors = empty_vectors(self.machine, len(inputs)) if record else None
        for n, pixels in enumerate(inputs):
            self._inputs.appendleft(_Travelling(int(labels[n]), int(codes[n])))
            clocks += self._junction_cycle(pixels)
            winners[n] = self._units[-1].winner
            if vectors is not None:
                self._record(vectors, n)
        return Trace(winners, clocks, vectors)

    @property
    def events(self) -> list[Event]:
        """The logged accesses, without their addresses."""
        return [each.event for each in self.log]

    def parameters(self) -> Parameters:
        """Return a copy of the weights and biases as they are now."""
        weights, biases = zip(*(unit.parameters() for unit in self._units), strict=True)
        return Parameters(weights, biases)

    def saturation(self) -> tuple[Saturation, ...]:
        """Return how often each junction's units clipped a result since the start."""
        return tuple(unit.datapath.saturation for unit in self._units)

    def _junction_cycle(self, pixels: Pixels) -> int:
        """Run one junction cycle and return its clocks."""
        junctions = self.machine.junctions
        for i, unit in enumerate(self._units, 1):
            label = self._inputs[schedule.forward_delay(i)].label
            code = self._inputs[schedule.update_delay(junctions, i)].code
            unit.begin_cycle(self.cycle, label, code)
        words = self.machine.number.from_pixel(pixels)
        for clock in range(self.machine.cycle_clocks):
            for unit in self._units:
                unit.fetch(clock)
            for unit in self._units:
                unit.retire(clock)
            self._load(clock, words)
        self.cycle += 1
        return self.machine.cycle_clocks

    def _load(self, clock: int, words: Ints) -> None:
        """Write the clock's share of the input, in the order of its words in the memories."""
        neurons, inputs = self._loads.get(clock), self._layers[0]
        if neurons is None:
            return
        assert inputs.activation is not None
        bank = schedule.write_bank(self.cycle, inputs.banks)
        at = inputs.lane[neurons], inputs.word[neurons]
        when = (self.cycle, clock)
        inputs.activation.write(when, Access.load, bank, *at, words[neurons], clock)

    def _record(self, vectors: Vectors, n: int) -> None:
        for i, unit in enumerate(self._units):
            vectors.activations[i][n] = unit.activations
            vectors.deltas[i][n] = unit.deltas
            vectors.codes[i][n] = unit.code
            if i < len(vectors.slopes):
                vectors.slopes[i][n] = unit.slopes
        vectors.output_delta[n] = self._units[-1].output_delta

    def memories(self) -> list[Memory]:
        """Return all memories, those of junctions first."""
        found = [memory for unit in self._units for memory in (unit.weight, unit.bias)]
        for layer in self._layers:
            found += [m for m in (layer.activation, layer.slope, layer.delta) if m is not None]
        return found


def _loads(machine: Machine) -> dict[int, Ints]:
    """Return the inputs loaded in each clock, in the order of their words in the memories."""
    order, share = machine.orders[0], machine.load_words_per_clock
    place = np.arange(order.lanes * order.depth_words)
    lane, word = place % order.lanes, place // order.lanes
    neuron = word * order.lanes + lane if order.interleaved else lane * order.depth_words + word
    shares = [neuron[first : first + share] for first in range(0, len(neuron), share)]
    held = [part[part < order.n_in] for part in shares]
    return {clock: part for clock, part in enumerate(held) if len(part)}


def _layers(machine: Machine) -> list[Layer]:
    """Build the memories of every layer, in the banks of the junction to its right."""
    junctions, layers = machine.junctions, []
    for layer, neurons in enumerate(machine.layers):
        banks = schedule.activation_banks(junctions, layer)
        if layer == junctions:
            lanes = machine.issues[-1].completed_per_clock
            sizes = {"lanes": lanes, "depth_words": -(-neurons // lanes)}
            output = Memory(MemoryKind.delta, layer, banks=schedule.DELTA_BANKS, ports=1, **sizes)
            neuron = np.arange(neurons)
            layers.append(Layer(neuron % lanes, neuron // lanes, banks, None, None, output))
            break
        order = machine.orders[layer]
        sizes = {"lanes": order.lanes, "depth_words": order.depth_words}
        slope: Memory | None = None
        delta: Memory | None = None
        activation = Memory(MemoryKind.activation, layer, banks=banks, ports=1, **sizes)
        if layer > 0:
            slope = Memory(MemoryKind.slope, layer, banks=banks, ports=1, **sizes)
            delta = Memory(MemoryKind.delta, layer, banks=schedule.DELTA_BANKS, ports=2, **sizes)
        neuron = np.arange(neurons)
        layers.append(
            Layer(order.memory(neuron), order.word(neuron), banks, activation, slope, delta)
        )
    return layers

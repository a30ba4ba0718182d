"""One junction at work: fetches the words of a step, passes them on, writes the results.

| name      | meaning                                                      | shape         |
|-----------|--------------------------------------------------------------|---------------|
| k         | clock in which a step is issued                              |               |
| P         | pipeline depth                                               |               |
| sums      | weighted sums of the right neurons in work, exact            | [n_out]       |
| deltas    | deltas of the right neurons as read by update and back-prop. | [n_out]       |

Fetch at k; partial deltas, weights, biases and cleared deltas are written at k + 1 + P; activation
and derivative pass one more register and are written at k + 2 + P.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dnc_hw import schedule
from dnc_hw.datapath import Datapath
from dnc_hw.events import Access, MemoryKind
from dnc_hw.fixed_point import Ints
from dnc_hw.issue import Step
from dnc_hw.machine import Machine
from dnc_hw.memory import Memory
from dnc_hw.trace import NO_LABEL


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer's memories, and in which lane and at which word of them each neuron lies.

    The inputs have no slope and no delta, the outputs only a delta.
    """

    lane: Ints
    word: Ints
    banks: int
    activation: Memory | None
    slope: Memory | None
    delta: Memory | None


class _Fetched(NamedTuple):
    """The words of a step on their way through the pipeline."""

    number: int
    step: Step
    w: Ints
    b: Ints
    a_forward: Ints
    a_update: Ints
    slope: Ints | None
    partial: Ints | None
    delta: Ints
    delta_finished: Ints


class _Activated(NamedTuple):
    """What the activation table holds in its output register."""

    number: int
    neurons: Ints
    a: Ints
    slope: Ints


class JunctionUnit:
    """Feed-forward, back-propagation and update of a junction, with its weights and biases."""

    def __init__(self, machine: Machine, junction: int, left: Layer, right: Layer) -> None:
        order = machine.orders[junction]
        self._number = machine.number
        self.datapath = Datapath(machine.number)
        self._order = order
        self._left, self._right = left, right
        self._steps = {step.clock: n for n, step in enumerate(machine.issues[junction].steps)}
        self._issue = machine.issues[junction].steps
        self._activation = machine.activation(junction)
        self._forwards = machine.hazards == "forward"
        self._is_last = junction == machine.junctions - 1
        self._scans_last_clock = not machine.winner_skips_last_clock
        self._pipe: deque[_Fetched | None] = deque([None] * (1 + machine.pipeline_clocks))
        self._register: _Activated | None = None

        at_once = machine.issues[junction].completed_per_clock
        bias_words = -(-order.n_out // at_once)
        sizes = {"banks": 1, "ports": 2}
        self.weight = Memory(
            MemoryKind.weight, junction + 1, lanes=order.lanes, depth_words=order.rows, **sizes
        )
        self.bias = Memory(
            MemoryKind.bias, junction + 1, lanes=at_once, depth_words=bias_words, **sizes
        )
        edge, neuron = np.arange(order.n_edges), np.arange(order.n_out)
        self._edge_at = edge % order.lanes, edge // order.lanes
        self._bias_at = neuron % at_once, neuron // at_once

        self._sums = np.zeros(order.n_out, dtype=np.int64)
        self.activations = np.zeros(order.n_out, dtype=np.int64)
        self.slopes = np.zeros(order.n_out, dtype=np.int64)
        self.deltas = np.zeros(order.n_out, dtype=np.int64)
        self.output_delta = np.zeros(order.n_out, dtype=np.int64)
        self.winner = 0
        self._best = -1
        self.code = 0
        self._cycle = 0
        self._label = NO_LABEL

    def set_parameters(self, weights: Ints, biases: Ints) -> None:
        """Fill the weight memories [edges] and bias memories [n_out]."""
        self.weight.words[0][self._edge_at] = weights
        self.bias.words[0][self._bias_at] = biases

    def parameters(self) -> tuple[Ints, Ints]:
        """Return weights [edges] and biases [n_out]."""
        return self.weight.words[0][self._edge_at], self.bias.words[0][self._bias_at]

    def begin_cycle(self, cycle: int, label: int, code: int) -> None:
        """Turn to the next inputs: `label` of the one fed forward, `code` of the update."""
        assert self._register is None
        assert not any(self._pipe)
        self._cycle, self._label, self.code = cycle, label, code
        self._best = -1
        self.winner = 0

    def fetch(self, clock: int) -> None:
        """Read the words of the step that is issued in this clock, if one is."""
        n = self._steps.get(clock)
        self._pipe.append(None if n is None else self._read(n, (self._cycle, clock)))

    def _read(self, n: int, when: tuple[int, int]) -> _Fetched:
        step, left, right = self._issue[n], self._left, self._right
        neuron, target = self._order.left[step.edges], self._order.right[step.edges]
        at = left.lane[neuron], left.word[neuron]
        forward_bank = schedule.forward_bank(self._cycle, left.banks)
        update_bank = schedule.update_bank(self._cycle, left.banks)
        assert left.activation is not None
        assert right.delta is not None

        weight_at = self._edge_at[0][step.edges], self._edge_at[1][step.edges]
        w = self.weight.read(when, Access.forward_read, 0, *weight_at, n)
        a_forward = left.activation.read(when, Access.forward_read, forward_bank, *at, n)
        a_update = left.activation.read(when, Access.update_read, update_bank, *at, n)
        slope = partial = None
        if left.slope is not None and left.delta is not None:
            slope = left.slope.read(when, Access.update_read, update_bank, *at, n)
            filled = schedule.delta_write_bank(self._cycle)
            partial = left.delta.read(when, Access.accumulate_read, filled, *at, n)
        if len(step.starts):
            used = 1 - schedule.delta_write_bank(self._cycle)
            at = right.lane[step.starts], right.word[step.starts]
            self.deltas[step.starts] = right.delta.read(when, Access.update_read, used, *at, n)
        b = self._sums[:0]
        if len(step.finishes):
            at = self._bias_at[0][step.finishes], self._bias_at[1][step.finishes]
            b = self.bias.read(when, Access.forward_read, 0, *at, n)
        delta, finished = self.deltas[target], self.deltas[step.finishes]
        return _Fetched(n, step, w, b, a_forward, a_update, slope, partial, delta, finished)

    def retire(self, clock: int) -> None:
        """Write what leaves the activation table, then the step that leaves the pipeline."""
        when = (self._cycle, clock)
        if self._register is not None:
            self._write_activation(when, self._register)
        self._register = None
        fetched = self._pipe.popleft()
        if fetched is None:
            return
        self._feed_forward(fetched)
        self._update(when, fetched)
        if fetched.slope is not None:
            self._back_propagate(when, fetched)
        self._clear_deltas(when, fetched)

    def _feed_forward(self, fetched: _Fetched) -> None:
        step = fetched.step
        products = self.datapath.products(fetched.w, fetched.a_forward)
        np.add.at(self._sums, self._order.right[step.edges], products)
        if len(step.finishes):
            s = self.datapath.sums(self._sums[step.finishes], fetched.b)
            self._sums[step.finishes] = 0
            a, slope = self._activation.look_up(s)
            self._register = _Activated(fetched.number, step.finishes, a, slope)

    def _update(self, when: tuple[int, int], fetched: _Fetched) -> None:
        step, n = fetched.step, fetched.number
        w = self.datapath.updated_weights(fetched.w, fetched.a_update, fetched.delta, self.code)
        weight_at = self._edge_at[0][step.edges], self._edge_at[1][step.edges]
        self.weight.write(when, Access.write, 0, *weight_at, w, n)
        if len(step.finishes):
            b = self.datapath.updated_biases(fetched.b, fetched.delta_finished, self.code)
            at = self._bias_at[0][step.finishes], self._bias_at[1][step.finishes]
            self.bias.write(when, Access.write, 0, *at, b, n)

    def _back_propagate(self, when: tuple[int, int], fetched: _Fetched) -> None:
        left, neuron = self._left, self._order.left[fetched.step.edges]
        at = left.lane[neuron], left.word[neuron]
        bank, partial = schedule.delta_write_bank(self._cycle), fetched.partial
        assert left.delta is not None
        assert fetched.slope is not None
        assert partial is not None
        if self._forwards:
            # the bypass: what was written since the read comes straight from the adder
            partial = left.delta.words[bank, *at]
        summed = self.datapath.back_propagated(fetched.w, fetched.slope, fetched.delta, partial)
        left.delta.write(when, Access.accumulate_write, bank, *at, summed, fetched.number)

    def _clear_deltas(self, when: tuple[int, int], fetched: _Fetched) -> None:
        """Leave zeros behind the read of hidden deltas, for the sums of the next cycle."""
        starts, right = fetched.step.starts, self._right
        if self._is_last or not len(starts):
            return
        assert right.delta is not None
        used = 1 - schedule.delta_write_bank(self._cycle)
        at = right.lane[starts], right.word[starts]
        right.delta.write(when, Access.clear, used, *at, 0, fetched.number)

    def _write_activation(self, when: tuple[int, int], done: _Activated) -> None:
        right, neurons = self._right, done.neurons
        at = right.lane[neurons], right.word[neurons]
        self.activations[neurons] = done.a
        self.slopes[neurons] = done.slope
        if self._is_last:
            target = np.where(neurons == self._label, self._number.one, 0)
            self.output_delta[neurons] = delta = self._number.add(done.a, -target)
            assert right.delta is not None
            bank = schedule.delta_write_bank(self._cycle)
            right.delta.write(when, Access.write, bank, *at, delta, done.number)
            self._compare(done)
            return
        assert right.activation is not None
        assert right.slope is not None
        bank = schedule.write_bank(self._cycle, right.banks)
        right.activation.write(when, Access.write, bank, *at, done.a, done.number)
        right.slope.write(when, Access.write, bank, *at, done.slope, done.number)

    def _compare(self, done: _Activated) -> None:
        """Keep the winner: the later clock wins ties, within a clock the first neuron."""
        if done.number == len(self._issue) - 1 and not self._scans_last_clock:
            return
        first = int(np.argmax(done.a))
        if done.a[first] >= self._best:
            self._best, self.winner = int(done.a[first]), int(done.neurons[first])

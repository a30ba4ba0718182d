"""The fast engine: the model's results, compiled.

It computes whole junctions at a time and what the memories' timing does to partial deltas once,
ahead; the tests hold it equal to `dnc_hw.model` in every value, clock and event.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dnc_hw import _engine, schedule
from dnc_hw.activation import SigmoidTable
from dnc_hw.events import Event
from dnc_hw.fixed_point import Ints
from dnc_hw.machine import Machine
from dnc_hw.saturation import Saturation
from dnc_hw.trace import Parameters, Pixels, Trace, check_run, empty_vectors

# a machine under "reject" has no hazard, so no policy matters to it
_POLICIES = {
    "reject": _engine.Policy.forward,
    "stall": _engine.Policy.stall,
    "forward": _engine.Policy.forward,
    "emulate": _engine.Policy.emulate,
}


def instruction_sets() -> list[str]:
    """Name the instruction sets that run here, fastest first."""
    return _engine.instruction_sets()


class Engine:
    """A machine with its contents, simulated by compiled code; see `trace.Simulator`.

    Raises ValueError for parameters that do not fit the machine, and for an instruction set that
    does not run here.
    """

    def __init__(
        self, machine: Machine, parameters: Parameters, *, instruction_set: str | None = None
    ) -> None:
        parameters.check(machine)
        self.machine = machine
        self.cycle = 0
        # codes of inputs that have not updated every junction yet, oldest first
        self._codes = np.zeros(schedule.update_delay(machine.junctions, 1), dtype=np.int64)
        self.compiled = _engine.Engine(
            _described(machine),
            parameters.weights,
            parameters.biases,
            instruction_set or instruction_sets()[0],
        )

    def run(self, inputs: Pixels, labels: Ints, codes: Ints, *, record: bool = False) -> Trace:
        """Load one input per junction cycle; see `trace.Simulator`."""
        check_run(self.machine, inputs, labels, codes)
        vectors = empty_vectors(self.machine, len(inputs)) if record else None
        arrays = None
        if vectors is not None:
            arrays = (vectors.activations, vectors.slopes, vectors.deltas, vectors.output_delta)
        winners = self.compiled.run(np.ascontiguousarray(inputs), labels, codes, arrays)
        travelling = np.concatenate([self._codes, codes])
        if vectors is not None:
            for i, used in enumerate(vectors.codes, 1):
                late = len(self._codes) - schedule.update_delay(self.machine.junctions, i)
                used[:] = travelling[late : late + len(codes)]
        self._codes = travelling[len(codes) :]
        self.cycle += len(inputs)
        return Trace(winners, len(inputs) * self.compiled.cycle_clocks, vectors)

    def parameters(self) -> Parameters:
        """Return a copy of the weights and biases as they are now."""
        count = range(self.machine.junctions)
        return Parameters(
            tuple(np.array(self.compiled.weights(i)) for i in count),
            tuple(np.array(self.compiled.biases(i)) for i in count),
        )

    def saturation(self) -> tuple[Saturation, ...]:
        """Return how often each junction's units clipped a result since the start."""
        return tuple(Saturation(*counts) for counts in self.compiled.saturation)

    def events(self, first: int, cycles: int) -> NDArray[np.int32]:
        """Return the port accesses of junction cycles in the order of `events.as_table`."""
        tables = [self.compiled.events(first + n) for n in range(cycles)]
        table = np.concatenate(tables) if tables else np.empty((0, len(Event._fields)), np.int32)
        return table[np.lexsort(table.T[::-1])]


def _described(machine: Machine) -> _engine.Machine:
    number = machine.number
    return _engine.Machine(
        junctions=[
            _engine.Junction(o.n_in, o.n_out, o.lanes, o.interleaved, o.left, o.right)
            for o in machine.orders
        ],
        tables=[_table(machine, i) for i in range(machine.junctions)],
        integer_bits=number.integer_bits,
        fraction_bits=number.fraction_bits,
        rounds_after_clip=number.rounds_after_clip,
        pipeline=machine.pipeline_clocks,
        policy=_POLICIES[machine.hazards],
        winner_skips_last_clock=machine.winner_skips_last_clock,
    )


def _table(machine: Machine, junction: int) -> _engine.ActivationTable:
    activation = machine.activation(junction)
    if isinstance(activation, SigmoidTable):
        return _engine.ActivationTable(activation.values, activation.slopes, activation.half_span)
    nothing = np.empty(0, dtype=np.int64)
    return _engine.ActivationTable(nothing, nothing, 0)

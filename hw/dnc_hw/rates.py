"""Clocks to time, bandwidth and energy.

| name     | meaning                                                     | unit           |
|----------|-------------------------------------------------------------|----------------|
| T        | clocks of a junction cycle, which trains one input          | clocks         |
| latency  | L + 1 junction cycles to an output, 2L + 1 to a last update | junction cycles |

Energy is activity times energy per operation plus static power: uncalibrated, since no measured
point of this machine has been published.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnc_hw import schedule
from dnc_hw.fixed_point import PIXEL_BITS
from dnc_hw.machine import Machine


@dataclass(frozen=True)
class Rates:
    """How fast a machine trains (inference runs at the same rate).

    `input_mb_per_s` is the average over a junction cycle, padding included.
    """

    clock_mhz: float
    cycle_clocks: int
    input_us: float
    inputs_per_s: float
    inference_latency_us: float
    training_latency_us: float
    input_mb_per_s: float
    peak_input_mb_per_s: float

    def epoch_ms(self, inputs: int) -> float:
        """Return the time for so many inputs, one after another."""
        return inputs * self.input_us / 1000


def rates_of(machine: Machine) -> Rates:
    """Return time per input, rates and latencies at the machine's clock."""
    clocks, junctions = machine.cycle_clocks, machine.junctions
    input_us = clocks / machine.clock_mhz
    return Rates(
        machine.clock_mhz,
        clocks,
        input_us,
        1e6 / input_us,
        schedule.inference_latency_cycles(junctions) * input_us,
        schedule.training_latency_cycles(junctions) * input_us,
        machine.n_in * PIXEL_BITS / 8 / input_us,
        machine.load_words_per_clock * PIXEL_BITS / 8 * machine.clock_mhz,
    )


@dataclass(frozen=True)
class OperationEnergy:
    """Energy per operation, and static power; the defaults are orders of magnitude, not measured.

    45 nm figures of Horowitz (ISSCC 2014): 0.1 pJ for a 32 bit addition and 3.1 pJ for a 32 bit
    multiplication, scaled by bits and bits squared; 10 pJ for 64 bits of an 8 kB memory.
    """

    add_pj_per_bit: float = 0.1 / 32
    multiply_pj_per_bit2: float = 3.1 / 32**2
    memory_pj_per_bit: float = 10 / 64
    static_w: float = 0.0


@dataclass(frozen=True)
class Energy:
    """Energy to train one input, in nanojoules; `calibrated` is False until it was measured."""

    multiply_nj: float
    add_nj: float
    memory_nj: float
    static_nj: float
    calibrated: bool = False

    @property
    def input_nj(self) -> float:
        """Energy of one input in all."""
        return self.multiply_nj + self.add_nj + self.memory_nj + self.static_nj


@dataclass(frozen=True)
class Activity:
    """Operations and memory traffic that train one input."""

    multiplications: int
    additions: int
    memory_bits: int


def activity_of(machine: Machine) -> Activity:
    """Count what trains one input; eta is a shift and costs neither."""
    edges = [order.n_edges for order in machine.orders]
    back_edges = sum(edges[1:])
    neurons, hidden = sum(machine.layers[1:]), sum(machine.layers[1:-1])
    # weights and biases are read and written; activations read by feed-forward and update; slopes
    # read, partial deltas read and written by back-propagation
    words = 2 * sum(edges) + 2 * neurons + 2 * back_edges + 3 * back_edges
    # activation, slope, delta and its clearing; an output has only its delta, written and read
    words += 4 * hidden + 2 * machine.n_out
    pixels = machine.n_in + 2 * edges[0]
    return Activity(
        2 * sum(edges) + 2 * back_edges,
        # trees with their biases, updates of weights and biases, partial deltas, a - y
        2 * sum(edges) + neurons + back_edges + machine.n_out,
        words * machine.number.width_bits + pixels * PIXEL_BITS,
    )


def energy_of(machine: Machine, per_operation: OperationEnergy | None = None) -> Energy:
    """Estimate the energy to train one input; uncalibrated."""
    each, activity = per_operation or OperationEnergy(), activity_of(machine)
    width = machine.number.width_bits
    return Energy(
        activity.multiplications * each.multiply_pj_per_bit2 * width**2 / 1000,
        activity.additions * each.add_pj_per_bit * width / 1000,
        activity.memory_bits * each.memory_pj_per_bit / 1000,
        each.static_w * rates_of(machine).input_us * 1000,
    )

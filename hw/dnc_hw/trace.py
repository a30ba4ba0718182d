"""What a run leaves: winners always, every vector of every junction cycle where recorded.

Row t of each array belongs to junction cycle t of the run. `dnc_hw.schedule` tells which input it
worked on; rows of inputs before the first hold what empty memories give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dnc_hw.fixed_point import Ints
from dnc_hw.machine import Machine
from dnc_hw.saturation import Saturation

Pixels = NDArray[np.uint8]
NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of one junction cycle each, per junction (tuples count junctions from 0).

    `activations` [cycles, n_out] written by feed-forward, `slopes` their derivatives (None for the
    last junction), `deltas` [cycles, n_out] read by the update, `output_delta` [cycles, outputs]
    written, `codes` [cycles] the learning-rate code of the update.
    """

    activations: tuple[Ints, ...]
    slopes: tuple[Ints, ...]
    deltas: tuple[Ints, ...]
    output_delta: Ints
    codes: tuple[Ints, ...]


@dataclass(frozen=True, eq=False)
class Trace:
    """Winners [cycles] and clocks of a run, the vectors if they were recorded."""

    winners: Ints
    clocks: int
    vectors: Vectors | None = None


@dataclass(frozen=True, eq=False)
class Parameters:
    """Weights and biases of each junction, in LSB.

    weights: per junction [edges], in processing order; biases: per junction [n_out].
    """

    weights: tuple[Ints, ...]
    biases: tuple[Ints, ...]

    def check(self, machine: Machine) -> None:
        """Raise ValueError for shapes that are not the machine's and values out of its range."""
        if not len(self.weights) == len(self.biases) == machine.junctions:
            raise ValueError(
                f"parameters of {len(self.weights)} junctions cannot fill a machine of "
                f"{machine.junctions}"
            )
        number = machine.number
        for i, order in enumerate(machine.orders):
            for name, words, count in (
                ("weights", self.weights[i], order.n_edges),
                ("biases", self.biases[i], order.n_out),
            ):
                if words.shape != (count,):
                    raise ValueError(
                        f"junction {i + 1} has {count} {name}, got shape {list(words.shape)}"
                    )
                if words.min() < number.smallest or words.max() > number.largest:
                    raise ValueError(
                        f"{name} of junction {i + 1} lie in {words.min()}..{words.max()} LSB, "
                        f"outside format {number}, {number.smallest}..{number.largest}"
                    )


def empty_vectors(machine: Machine, cycles: int) -> Vectors:
    """Make room for the vectors of a run."""

    def rows(sizes: tuple[int, ...]) -> tuple[Ints, ...]:
        return tuple(np.zeros((cycles, n), dtype=np.int64) for n in sizes)

    right = machine.layers[1:]
    codes = tuple(np.zeros(cycles, dtype=np.int64) for _ in right)
    (output_delta,) = rows(right[-1:])
    return Vectors(rows(right), rows(right[:-1]), rows(right), output_delta, codes)


class Simulator(Protocol):
    """The readable model and the fast engine, from outside."""

    machine: Machine
    cycle: int

    def run(self, inputs: Pixels, labels: Ints, codes: Ints, *, record: bool = False) -> Trace:
        """Load one input per junction cycle and return what those cycles did.

        inputs: [cycles, n_in] pixels; labels: [cycles], `NO_LABEL` for an all-zero target; codes:
        [cycles] learning-rate codes. What is still in flight continues in the next run.
        """
        ...

    def parameters(self) -> Parameters:
        """Return a copy of the weights and biases as they are now."""
        ...

    def saturation(self) -> tuple[Saturation, ...]:
        """Return how often each junction's units clipped a result since the start."""
        ...


def check_run(machine: Machine, inputs: Pixels, labels: Ints, codes: Ints) -> None:
    """Raise ValueError for inputs, labels or codes that the machine cannot take."""
    if inputs.dtype != np.uint8:
        raise ValueError(
            f"inputs must be 8-bit pixels (uint8), got {inputs.dtype}; see dnc_hw.as_pixels"
        )
    if inputs.ndim != 2 or inputs.shape[1] != machine.n_in:
        raise ValueError(f"inputs must be [cycles, {machine.n_in}], got shape {list(inputs.shape)}")
    for name, given in (("labels", labels), ("codes", codes)):
        if given.shape != (len(inputs),):
            raise ValueError(
                f"{name} must be [{len(inputs)}], one per input, got shape {list(given.shape)}"
            )
    if labels.size and not NO_LABEL <= labels.min() <= labels.max() < machine.n_out:
        raise ValueError(
            f"labels must lie in 0..{machine.n_out - 1} (or {NO_LABEL} for none), "
            f"got {labels.min()}..{labels.max()}"
        )
    for code in np.unique(codes):
        machine.number.check_code(int(code))

"""The machine: which network it trains, with how many lanes, in which numbers.

| name      | meaning                                           | in the papers       |
|-----------|---------------------------------------------------|---------------------|
| layers    | neurons of layer 0 (inputs) to L                  | N_0 .. N_L          |
| junction  | i = 1..L joins layer i - 1 to layer i             |                     |
| lanes     | edges per clock of a junction                     | z_i                 |
| rows      | clocks of useful work per junction cycle          | C_i                 |
| depth     | words of a left memory                            | D_i                 |
| P         | pipeline depth of the arithmetic, clocks          | RTL: PROCTIME       |
| T         | clocks of a junction cycle, max rows + 2 + P      |                     |

Junctions are numbered from 1 in texts and reports, from 0 in tuples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dnc_hw.activation import MAX_TABLE_ENTRIES, Activation, ActivationName, activation
from dnc_hw.devices import DEVICES, Device
from dnc_hw.edges import EdgeOrder, nearest_divisors, order_of, rtl_order
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.issue import FLUSH_CLOCKS, HAZARD_POLICIES, HazardPolicy, Issue, issue
from dnc_hw.learning_rate import LearningRate
from dnc_sparse.patterns import Pattern
from dnc_sparse.patterns.pattern import whole


@dataclass(frozen=True, eq=False)
class Machine:
    """A machine that trains one network, valid once built.

    `orders` holds a junction's edges each; `from_sizes` and `from_patterns` build
    them. `hazards` says what happens where a partial delta would be read before it is
    written: refuse the machine, stall, forward the sum, or lose it as the published design does.
    `winner_skips_last_clock` reproduces the published search for the winner, which ignores the
    output neurons of the last clock. `table_minimum` is the least entry of the sigmoid tables in
    LSB, None for that of the published table of this width; `max_table_entries` is 4096 in the
    published design.

    Raises ValueError for junctions that do not join, lanes that cannot absorb what the junction
    before produces, a learning rate the format lacks, and hazards or clashes under "reject".
    """

    orders: tuple[EdgeOrder, ...]
    number: FixedPoint
    pipeline_clocks: int = 0
    hidden_activation: ActivationName = "sigmoid"
    rate: LearningRate = field(default_factory=LearningRate)
    hazards: HazardPolicy = "forward"
    device: Device = DEVICES["xc7a100t"]
    clock_mhz: float = 15.0
    winner_skips_last_clock: bool = True
    table_minimum: int | None = None
    max_table_entries: int = MAX_TABLE_ENTRIES

    def __post_init__(self) -> None:
        if not self.orders:
            raise ValueError("a machine needs at least one junction, got none")
        for i, (left, right) in enumerate(pairwise(self.orders), 1):
            if left.n_out != right.n_in:
                raise ValueError(
                    f"junction {i} ends in {left.n_out} neurons but junction {i + 1} begins with "
                    f"{right.n_in}; give both the same layer"
                )
        if whole("pipeline_clocks", self.pipeline_clocks) < 0:
            raise ValueError(
                f"pipeline_clocks must not be negative, got {self.pipeline_clocks}; the published "
                f"designs have 0 and 2"
            )
        if self.hazards not in HAZARD_POLICIES:
            raise ValueError(
                f"unknown hazard policy {self.hazards!r}; choose {', '.join(HAZARD_POLICIES)}"
            )
        if not self.clock_mhz > 0:
            raise ValueError(f"clock_mhz must be positive, got {self.clock_mhz:g}")
        self.rate.check(self.number)
        # built here for their errors
        for i in range(len(self.orders)):
            self.activation(i)
        for i in range(len(self.orders) - 1):
            self._check_absorption(i)
        if self.hazards == "reject":
            self._reject()
        if self.winner_skips_last_clock and len(self.issues[-1].steps[-1].finishes) == self.n_out:
            raise ValueError(
                f"all {self.n_out} outputs are computed in one clock, and the published winner "
                f"search ignores those of the last; set winner_skips_last_clock=False"
            )

    @property
    def layers(self) -> tuple[int, ...]:
        """Neurons of each layer, inputs first."""
        return (self.orders[0].n_in, *(order.n_out for order in self.orders))

    @property
    def lanes(self) -> tuple[int, ...]:
        """Edges per clock of each junction."""
        return tuple(order.lanes for order in self.orders)

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """The pattern of each junction."""
        return tuple(order.pattern for order in self.orders)

    @property
    def junctions(self) -> int:
        """How many junctions there are, L."""
        return len(self.orders)

    @property
    def n_in(self) -> int:
        """Inputs."""
        return self.orders[0].n_in

    @property
    def n_out(self) -> int:
        """Outputs."""
        return self.orders[-1].n_out

    @cached_property
    def issues(self) -> tuple[Issue, ...]:
        """The steps of each junction's cycle."""
        return tuple(
            issue(
                order,
                self.pipeline_clocks,
                accumulates=i > 0,
                stalls=self.hazards == "stall",
            )
            for i, order in enumerate(self.orders)
        )

    @property
    def cycle_clocks(self) -> int:
        """Clocks of a junction cycle, which trains one input: T."""
        return max(issue.clocks for issue in self.issues) + FLUSH_CLOCKS + self.pipeline_clocks

    @property
    def load_words_per_clock(self) -> int:
        """Inputs loaded per clock: as few as fill the clocks in which steps are issued."""
        inputs = self.orders[0]
        issue_clocks = max(issue.clocks for issue in self.issues)
        return -(-inputs.lanes * inputs.depth_words // issue_clocks)

    def activation(self, junction: int) -> Activation:
        """Return the activation after a junction (from 0); the last one is always a sigmoid."""
        name = self.hidden_activation if junction < self.junctions - 1 else "sigmoid"
        return activation(name, self.number, self.table_minimum, self.max_table_entries)

    @classmethod
    def from_sizes(
        cls,
        layers: Sequence[int],
        fan_out: Sequence[int],
        lanes: Sequence[int],
        number: FixedPoint,
        *,
        starts: Sequence[ArrayLike | None] | None = None,
        **options: Any,
    ) -> Machine:
        """Build a machine with the published interleaver: start addresses per junction, or zeros.

        Raises ValueError for counts that do not match, and as `rtl_order` and `Machine`.
        """
        _check_counts(layers, fan_out=fan_out, lanes=lanes, starts=starts)
        sizes = zip(layers, layers[1:], fan_out, lanes, starts or [None] * len(lanes), strict=False)
        orders = tuple(_placed(i, rtl_order, *size) for i, size in enumerate(sizes, 1))
        return cls(orders, number, **options)

    @classmethod
    def from_patterns(
        cls, patterns: Sequence[Pattern], lanes: Sequence[int], number: FixedPoint, **options: Any
    ) -> Machine:
        """Build a machine for patterns, in their own order (`order_of`).

        Raises ValueError for counts that do not match, and as `order_of` and `Machine`.
        """
        _check_counts(range(len(patterns) + 1), lanes=lanes)
        pairs = zip(patterns, lanes, strict=True)
        orders = tuple(_placed(i, order_of, *pair) for i, pair in enumerate(pairs, 1))
        return cls(orders, number, **options)

    def _check_absorption(self, i: int) -> None:
        """Require that what junction i + 1 reads and writes of its right layer is in distinct
        memories in every clock."""
        following = self.orders[i + 1]
        for step in self.issues[i].steps:
            for neurons in (step.starts, step.finishes):
                if len(np.unique(following.memory(neurons))) == len(neurons):
                    continue
                way_out = (
                    f"take at least {len(neurons)} lanes in junction {i + 2}, such as "
                    f"{nearest_divisors(following.n_in, len(neurons) - 1)}, or fewer in junction "
                    f"{i + 1}"
                    if following.lanes < len(neurons)
                    else 'draw its pattern with bank_map="interleaved"'
                )
                kind = "interleaved" if following.interleaved else "blocked"
                raise ValueError(
                    f"junction {i + 1} completes {len(neurons)} neurons in clock {step.clock}, "
                    f"which {following.lanes} {kind} memories of junction {i + 2} cannot absorb at "
                    f"once; {way_out}"
                )

    def _reject(self) -> None:
        for i, found in enumerate(self.issues, 1):
            if found.clashes:
                clash = found.clashes[0]
                raise ValueError(
                    f"junction {i} reads memory {clash.memory} {clash.reads} times in row "
                    f"{clash.row} ({len(found.clashes)} clashes in all); choose a clash_free "
                    f"pattern, or another hazard policy"
                )
            if found.hazards:
                hazard = found.hazards[0]
                needed = self.pipeline_clocks + FLUSH_CLOCKS
                raise ValueError(
                    f"junction {i} reads the partial delta of memory {hazard.memory}, word "
                    f"{hazard.word} in clock {hazard.clock}, {hazard.gap_clocks} after clock "
                    f"{hazard.previous_clock}, before its write has landed ({len(found.hazards)} "
                    f"such hazards); {needed} clocks are needed: take fewer lanes (memories at "
                    f"least {needed} words deep), a pipeline depth of at most "
                    f"{max(hazard.gap_clocks - FLUSH_CLOCKS, 0)}, or another hazard policy"
                )


def _check_counts(layers: Sequence[int], **per_junction: Sequence[object] | None) -> None:
    junctions = len(layers) - 1
    for name, given in per_junction.items():
        if given is not None and len(given) != junctions:
            raise ValueError(f"{junctions} junctions need {junctions} {name}, got {len(given)}")


def _placed(junction: int, build: Callable[..., EdgeOrder], *arguments: Any) -> EdgeOrder:
    try:
        return build(*arguments)
    except ValueError as error:
        raise ValueError(f"junction {junction}: {error}") from error

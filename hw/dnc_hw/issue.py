"""When each row of a junction is issued: clashes, hazards, and the clocks they cost.

| name    | meaning                                                             | shape   |
|---------|---------------------------------------------------------------------|---------|
| row     | up to `lanes` consecutive edges                                     |         |
| step    | the edges of a row that can be read in one clock                    |         |
| clock   | the clock of the junction cycle in which a step's reads are issued  | [steps] |
| P       | pipeline depth of the arithmetic, clocks                            |         |
| gap     | clocks between two issues that touch the same left neuron, G        |         |

A step issued at clock k writes its partial deltas at k + 1 + P. A memory returns the old word to a
read of the clock in which it is written, so the sum of an earlier step is seen only where the gap
is at least P + 2. A row that reads a memory m times (a clash) takes m steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from dnc_hw.edges import EdgeOrder, Index

HazardPolicy = Literal["reject", "stall", "forward", "emulate"]
HAZARD_POLICIES: tuple[HazardPolicy, ...] = ("reject", "stall", "forward", "emulate")
# a left read and the activation table take one clock each
FLUSH_CLOCKS = 2


class RowClash(NamedTuple):
    """A row that reads one memory several times; it takes as many clocks."""

    row: int
    memory: int
    reads: int


class Hazard(NamedTuple):
    """A partial delta read `gap_clocks` after the step that last changed it was issued."""

    clock: int
    previous_clock: int
    memory: int
    word: int
    gap_clocks: int


@dataclass(frozen=True, eq=False)
class Step:
    """Edges issued in one clock, and the right neurons that begin and end with them.

    A right neuron's delta is fetched with the first step of the row of its first edge; its sum is
    complete with the last step of the row of its last edge.
    """

    clock: int
    edges: Index
    starts: Index
    finishes: Index


@dataclass(frozen=True, eq=False)
class Issue:
    """The steps of a junction cycle, and what delayed or endangered them.

    `hazards` lists every gap below P + 2 at the clocks of the steps (none where stalls removed
    them), `stall_clocks` the clocks lost to each cause.
    """

    steps: tuple[Step, ...]
    clashes: tuple[RowClash, ...]
    hazards: tuple[Hazard, ...]
    clash_stall_clocks: int
    hazard_stall_clocks: int

    @property
    def clocks(self) -> int:
        """Clocks until every step is issued, C for a junction without stalls."""
        return self.steps[-1].clock + 1

    @property
    def completed_per_clock(self) -> int:
        """The most right neurons that a clock completes, r in the papers."""
        return max(len(step.finishes) for step in self.steps)


def issue(order: EdgeOrder, pipeline_clocks: int, *, accumulates: bool, stalls: bool) -> Issue:
    """Return the steps of a junction; `accumulates` where it sums deltas for its left layer.

    With `stalls`, a step waits until no partial delta that it reads is on its way.
    """
    memory, word = order.memory(order.left), order.word(order.left)
    last_issue = np.full(order.n_in, -(pipeline_clocks + FLUSH_CLOCKS))
    steps: list[Step] = []
    clashes: list[RowClash] = []
    hazards: list[Hazard] = []
    waits = clock = 0
    for row in range(order.rows):
        edges = np.arange(row * order.lanes, min((row + 1) * order.lanes, order.n_edges))
        parts, found = _split(row, edges, memory[edges])
        clashes += found
        for number, part in enumerate(parts):
            left = order.left[part]
            if accumulates and stalls:
                free = int(last_issue[left].max()) + pipeline_clocks + FLUSH_CLOCKS
                waits += max(free - clock, 0)
                clock = max(clock, free)
            if accumulates:
                gaps = clock - last_issue[left]
                for n in np.flatnonzero(gaps < pipeline_clocks + FLUSH_CLOCKS):
                    place = int(memory[part[n]]), int(word[part[n]])
                    gap = int(gaps[n])
                    hazards.append(Hazard(clock, clock - gap, *place, gap))
                last_issue[left] = clock
            first, last = number == 0, number == len(parts) - 1
            steps.append(
                Step(
                    clock,
                    part,
                    _boundaries(order.right, edges, -1) if first else edges[:0],
                    _boundaries(order.right, edges, +1) if last else edges[:0],
                )
            )
            clock += 1
    extra = len(steps) - order.rows
    return Issue(tuple(steps), tuple(clashes), tuple(hazards), extra, waits)


def _split(row: int, edges: Index, memory: Index) -> tuple[list[Index], list[RowClash]]:
    """Split a row into steps that read every memory at most once, the n-th reads in step n."""
    by_memory = np.argsort(memory, kind="stable")
    names, start, reads = np.unique(memory[by_memory], return_index=True, return_counts=True)
    turn = np.empty(len(edges), dtype=np.int64)
    turn[by_memory] = np.arange(len(edges)) - np.repeat(start, reads)
    parts = [edges[turn == n] for n in range(int(reads.max()))]
    found = [RowClash(row, int(m), int(n)) for m, n in zip(names, reads, strict=True) if n > 1]
    return parts, found


def _boundaries(right: Index, edges: Index, side: int) -> Index:
    """Return the right neurons whose first (side -1) or last (side +1) edge is among these."""
    beyond = edges + side
    inside = (beyond >= 0) & (beyond < len(right))
    other = np.where(inside, right[np.where(inside, beyond, 0)], -1)
    result: Index = right[edges][other != right[edges]]
    return result

"""The order in which a junction's edges are processed, and where its left neurons are stored.

| name   | meaning                                              | shape or value      |
|--------|------------------------------------------------------|---------------------|
| edge   | e = row * lanes + lane                               | 0..n_edges - 1      |
| row    | edges that meet the arithmetic units together        | [rows], at most lanes edges |
| left   | left neuron of each edge                             | [edges]             |
| right  | right neuron of each edge, never falling             | [edges]             |
| slot   | where the edge's weight lies in `Pattern` order      | [edges]             |
| memory | left memory that holds a neuron, one of `lanes`      |                     |
| word   | address of a neuron in its memory, below `depth`     |                     |
| start  | address at which memory m starts in each sweep       | [fan_out, lanes]    |

In the published design edge e of sweep s reads word (start[s, m] + q) mod depth of memory m, where
m = e mod lanes and q counts the rows of the sweep. All starts are zero in the release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnc_sparse.patterns import Pattern, access_schedule, from_mask
from dnc_sparse.patterns.pattern import check_sizes, whole

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EdgeOrder:
    """The edges of a pattern in processing order, for a junction with `lanes` lanes.

    `left` and `right` list the edges; neurons lie in memory j mod lanes ("interleaved") or
    j // depth ("blocked"). Raises ValueError for edges that are not the pattern's, right neurons
    out of order or without an edge, and fewer than one lane.
    """

    pattern: Pattern
    lanes: int
    left: Index
    right: Index
    interleaved: bool = True

    def __post_init__(self) -> None:
        if self.pattern.block != (1, 1):
            raise ValueError(
                f"the machine's unit of work is one edge, got blocks {self.pattern.block}; "
                f"draw the pattern with block=1"
            )
        if not 1 <= self.lanes <= self.pattern.n_edges:
            raise ValueError(
                f"{self.lanes} lanes for a junction of {self.pattern.n_edges} edges; "
                f"choose 1 to {self.pattern.n_edges}"
            )
        if (self.pattern.counts == 0).any():
            neuron = int(np.argmin(self.pattern.counts))
            raise ValueError(
                f"right neuron {neuron} has no edge, so nothing would ever compute it; "
                f"choose a pattern in which every right neuron has one"
            )
        if (np.diff(self.right) < 0).any():
            raise ValueError("edges must come in the order of their right neurons")
        sorted_left = self.left[np.lexsort((self.left, self.right))]
        same_edges = np.array_equal(np.sort(self.right), self.pattern.edge_rows) and np.array_equal(
            sorted_left, self.pattern.indices
        )
        if not same_edges:
            raise ValueError(f"the edges listed are not those of {self.pattern!r}")

    @property
    def n_in(self) -> int:
        """Left neurons."""
        return self.pattern.n_in

    @property
    def n_out(self) -> int:
        """Right neurons."""
        return self.pattern.n_out

    @property
    def n_edges(self) -> int:
        """Edges, one weight each."""
        return self.pattern.n_edges

    @property
    def rows(self) -> int:
        """Rows of edges, C in the papers."""
        return -(-self.n_edges // self.lanes)

    @property
    def depth_words(self) -> int:
        """Words of a left memory, D in the papers."""
        return -(-self.n_in // self.lanes)

    @cached_property
    def slot(self) -> Index:
        """Flat slot of each edge in the pattern's weights: [edges]."""
        place = np.empty(self.n_edges, dtype=np.int64)
        place[np.lexsort((self.left, self.right))] = self.pattern.edge_slots
        return place

    def memory(self, neuron: Index) -> Index:
        """Return the left memory that holds each neuron."""
        return neuron % self.lanes if self.interleaved else neuron // self.depth_words

    def word(self, neuron: Index) -> Index:
        """Return the address of each neuron in its memory."""
        return neuron // self.lanes if self.interleaved else neuron % self.depth_words


def order_of(pattern: Pattern, lanes: int) -> EdgeOrder:
    """Return the processing order of a pattern.

    A clash_free or cyclic pattern brings its own, for as many lanes as it has banks; any other is
    processed slot by slot over interleaved memories.

    Raises ValueError for lanes other than the pattern's banks, and as `EdgeOrder`.
    """
    if pattern.family in ("clash_free", "cyclic"):
        banks = pattern.options["banks"]
        if banks != lanes:
            raise ValueError(
                f"{pattern!r} has {banks} banks, which cannot serve {lanes} lanes; "
                f"take {banks} lanes or draw it with banks={lanes}"
            )
        left = access_schedule(pattern).left.reshape(-1).astype(np.int64)
        right = np.arange(len(left)) // pattern.slots
        interleaved = pattern.options.get("bank_map") == "interleaved"
        return EdgeOrder(pattern, lanes, left, right, interleaved)
    left, right = pattern.indices.astype(np.int64), pattern.edge_rows.astype(np.int64)
    return EdgeOrder(pattern, lanes, left, right)


def edges_listed(n_in: int, n_out: int, left: ArrayLike, right: ArrayLike, lanes: int) -> EdgeOrder:
    """Return the order of edges given one by one, such as those captured from a running design.

    Raises ValueError for an edge given twice, and as `EdgeOrder`.
    """
    sources = np.asarray(left, dtype=np.int64)
    targets = np.asarray(right, dtype=np.int64)
    mask = np.zeros((n_out, n_in), dtype=bool)
    mask[targets, sources] = True
    if mask.sum() != len(sources):
        edges, count = np.unique(targets * n_in + sources, return_counts=True)
        twice = int(edges[np.argmax(count > 1)])
        raise ValueError(
            f"the edge from left neuron {twice % n_in} to right neuron {twice // n_in} is given "
            f"more than once; choose other start addresses or edges"
        )
    return EdgeOrder(from_mask(mask), lanes, sources, targets)


def rtl_order(
    n_in: int, n_out: int, fan_out: int, lanes: int, starts: Sequence[Sequence[int]] | None = None
) -> EdgeOrder:
    """Return the order of the published interleaver; `starts` default to the release's zeros.

    starts: [fan_out, lanes], addresses below depth.

    Raises TypeError for sizes that are not whole, and ValueError, naming the legal choices nearest
    to the asked one, for lanes that do not
    divide the left neurons, a fan_out that right neurons cannot share, starts of another shape or
    outside the memories, and starts that give an edge twice.
    """
    check_sizes(n_in, n_out, (1, 1))
    if whole("lanes", lanes) < 1 or n_in % lanes:
        raise ValueError(
            f"{n_in} left neurons cannot be spread over {lanes} lanes; choose a divisor of {n_in}, "
            f"such as {nearest_divisors(n_in, lanes)}"
        )
    if not 1 <= whole("fan_out", fan_out) <= n_out or n_in * fan_out % n_out:
        shares = [d for d in range(1, n_out + 1) if n_in * d % n_out == 0]
        raise ValueError(
            f"{n_in} left neurons with fan_out {fan_out} make {n_in * fan_out} edges, which "
            f"{n_out} right neurons cannot share equally, at most {n_in} each; "
            f"choose a fan_out such as {_around(shares, fan_out)}"
        )
    depth = n_in // lanes
    vectors = np.zeros((fan_out, lanes), dtype=np.int64) if starts is None else np.asarray(starts)
    if vectors.shape != (fan_out, lanes):
        raise ValueError(
            f"start addresses must be [fan_out {fan_out}, lanes {lanes}], "
            f"got shape {list(vectors.shape)}"
        )
    if vectors.min() < 0 or vectors.max() >= depth:
        raise ValueError(
            f"start addresses must lie in 0..{depth - 1}, the words of a memory, "
            f"got {vectors.min()}..{vectors.max()}"
        )
    left = swept(vectors, depth)
    right = np.arange(len(left)) // (n_in * fan_out // n_out)
    return edges_listed(n_in, n_out, left, right, lanes)


def swept(starts: Index, depth_words: int) -> Index:
    """Return the left neuron of every edge when memories are swept from these addresses.

    starts: [sweeps, lanes]; result: [sweeps * depth * lanes].
    """
    lanes = starts.shape[1]
    word = (starts[:, None, :] + np.arange(depth_words)[:, None]) % depth_words
    left: Index = (word * lanes + np.arange(lanes)).reshape(-1)
    return left


def nearest_divisors(n: int, wish: int) -> str:
    """Name the divisors of n next to a wish."""
    return _around([d for d in range(1, n + 1) if n % d == 0], wish)


def _around(legal: Sequence[int], wish: int) -> str:
    below = [d for d in legal if d < wish][-1:]
    above = [d for d in legal if d > wish][:1]
    return " or ".join(map(str, below + above))

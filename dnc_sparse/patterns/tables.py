"""What follows from a pattern's edges: degrees, and the tables that kernels read.

Each is made when it is asked for. None is larger than the edges, but those that are padded where a
backend counts on it: `Pattern.padded.sources` and `targets`.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnc_sparse.patterns.edges import Edges, IndexArray, StartArray, frozen, padded_rows

# rows are compact where padding would add more than a tenth to the slots, and so many of them
MOST_PADDING = 0.1
LEAST_PADDING = 2048
# numbers of a padded table that are made at a time for its digest
DIGEST_CHUNK = 2**20


class Tables:
    """The part of a `Pattern` that is computed from its edges."""

    if TYPE_CHECKING:
        n_in: int
        n_out: int
        block: tuple[int, int]
        indptr: StartArray
        indices: IndexArray
        _record: dict[str, Any] | None
        _pad: bool
        _plans: dict[Any, Any]

    @property
    def edges(self) -> Edges:
        """The edge blocks by right block row: (indptr, indices)."""
        return Edges(self.indptr, self.indices)

    @property
    def rows(self) -> int:
        """Right block rows."""
        return self.n_out // self.block[0]

    @property
    def columns(self) -> int:
        """Left block columns."""
        return self.n_in // self.block[1]

    @cached_property
    def slots(self) -> int:
        """Edge blocks of the longest row."""
        return int(self.counts.max(initial=0))

    @cached_property
    def compact(self) -> bool:
        """Whether each edge block has a row of weights to itself, as padding would waste memory."""
        blocks = len(self.indices)
        padding = self.rows * self.slots - blocks
        worth = padding >= LEAST_PADDING and padding > MOST_PADDING * blocks
        return worth and not self._pad

    @cached_property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight tensor: (rows, slots, bo, bi) or, compact, (edge blocks, 1, bo, bi).

        Compact weights come row by row in ascending order of their left block, as padded ones do.
        """
        stored = (len(self.indices), 1) if self.compact else (self.rows, self.slots)
        return (*stored, *self.block)

    @cached_property
    def sources(self) -> IndexArray:
        """Left block column of each slot of the weight, -1 where it is empty: weight_shape[:2]."""
        shape = self.weight_shape[:2]
        if shape[0] * shape[1] == len(self.indices):
            return self.indices.reshape(shape)
        return frozen(padded_rows(self.edges, self.slots, 0, self.rows), np.int32)

    @cached_property
    def counts(self) -> IndexArray:
        """Edge blocks of each row: [rows]."""
        return frozen(np.diff(self.indptr), np.int32)

    @property
    def row_of(self) -> IndexArray:
        """Block row that each row of the weight belongs to: [weight_shape[0]]."""
        return self.edge_rows if self.compact else np.arange(self.rows, dtype=np.int32)

    @property
    def edge_rows(self) -> IndexArray:
        """Block row of each edge block, in the order of `indices`: [edge blocks]."""
        return np.repeat(np.arange(self.rows, dtype=np.int32), self.counts)

    @property
    def edge_slots(self) -> NDArray[np.int64]:
        """Flat slot of each edge block in the weight, in the order of `indices`: [edge blocks]."""
        flat = np.arange(len(self.indices))
        if self.weight_shape[0] * self.weight_shape[1] == len(flat):
            return flat
        empty_before = np.arange(self.rows) * self.slots - self.indptr[:-1]
        return flat + np.repeat(empty_before, self.counts)

    @cached_property
    def _column_counts(self) -> IndexArray:
        """Edge blocks of each left column: [columns]."""
        return frozen(np.bincount(self.indices, minlength=self.columns), np.int32)

    @cached_property
    def targets(self) -> IndexArray:
        """Transposed table: flat slot of each edge block of a left column, by row, -1 padded."""
        order = np.argsort(self.indices, kind="stable")
        degree = self._column_counts
        table = np.full((self.columns, int(degree.max(initial=0))), -1, dtype=np.int32)
        table[np.arange(table.shape[1]) < degree[:, None]] = self.edge_slots[order]
        return frozen(table, np.int32)

    @cached_property
    def fan_ins(self) -> IndexArray:
        """Edges into each right neuron: [n_out]."""
        return frozen(np.repeat(self.counts * self.block[1], self.block[0]), np.int32)

    @cached_property
    def fan_outs(self) -> IndexArray:
        """Edges out of each left neuron: [n_in]."""
        return frozen(np.repeat(self._column_counts * self.block[0], self.block[1]), np.int32)

    @property
    def fan_in(self) -> int:
        """Largest number of edges into a right neuron (all equal in a regular pattern)."""
        return self.slots * self.block[1]

    @property
    def fan_out(self) -> int:
        """Largest number of edges out of a left neuron."""
        return int(self._column_counts.max()) * self.block[0]

    @cached_property
    def is_full(self) -> bool:
        """Whether every right neuron has the same fan_in."""
        return bool((self.counts == self.slots).all())

    @cached_property
    def is_regular(self) -> bool:
        """Whether every right neuron has the same fan_in and every left neuron the same fan_out."""
        columns = self._column_counts
        return self.is_full and bool((columns == columns.max()).all())

    @property
    def n_edges(self) -> int:
        """Connections, one weight each."""
        return len(self.indices) * self.block[0] * self.block[1]

    @property
    def density(self) -> float:
        """Edges / (n_in * n_out)."""
        return self.n_edges / (self.n_in * self.n_out)

    def mask(self) -> NDArray[np.bool_]:
        """Dense adjacency, right by left: [n_out, n_in]."""
        blocks = np.zeros((self.rows, self.columns), dtype=bool)
        blocks[self.edge_rows, self.indices] = True
        return np.kron(blocks, np.ones(self.block, dtype=bool))

    @cached_property
    def padded_digest(self) -> str:
        """What `digest` is of padded rows: states saved before there were compact ones carry it."""
        head = f"{self.n_in},{self.n_out},{self.block},{self.slots};".encode()
        digest = hashlib.sha256(head)
        step = max(1, DIGEST_CHUNK // max(self.slots, 1))
        for row in range(0, self.rows, step):
            part = padded_rows(self.edges, self.slots, row, min(row + step, self.rows))
            digest.update(np.ascontiguousarray(part, dtype="<i4").tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def _edge_hash(self) -> int:
        # the layout is no part of it: padded and compact rows of the same edges are equal
        return hash((self.indptr.tobytes(), self.indices.tobytes()))

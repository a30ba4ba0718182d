"""Edge blocks by right block row, as compressed sparse rows: O(edges), however uneven the rows.

| name    | meaning                                            | shape         |
|---------|----------------------------------------------------|---------------|
| indptr  | where the edge blocks of each row begin and end    | [rows + 1]    |
| indices | left block column of each edge block, ascending in | [edge blocks] |
|         | each row                                           |               |
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

IndexArray = NDArray[np.int32]
StartArray = NDArray[np.int64]


class Edges(NamedTuple):
    """Compressed sparse rows, valid once built: by a function of this module, or by its rules."""

    indptr: StartArray
    indices: IndexArray


def edges_of_table(sources: ArrayLike, rows: int, columns: int, most: int) -> Edges:
    """Check and compress a table of left blocks, -1 where a slot is empty: [rows, slots].

    Raises ValueError for another shape or dtype, columns out of range, one listed twice in a row,
    and more than `most` slots or columns.
    """
    table = np.asarray(sources)
    if table.ndim != 2 or table.shape[0] != rows:
        raise ValueError(f"sources must be [{rows} rows, slots], got shape {list(table.shape)}")
    if table.size and not np.issubdtype(table.dtype, np.integer):
        raise ValueError(f"sources must be integers, got {table.dtype}")
    if table.size and (table.min() < -1 or table.max() >= columns):
        raise ValueError(
            f"sources must lie in 0..{columns - 1} (or -1 for an empty slot), "
            f"got {table.min()}..{table.max()}"
        )
    if max(table.size, columns) > most:
        raise ValueError(
            f"{rows} rows of {table.shape[1]} slots over {columns} left blocks cannot be numbered "
            f"by int32 (at most {most}); choose a lower density or a larger block"
        )
    table = table.astype(np.int32)
    # empty slots sort last
    table[table < 0] = columns
    table.sort(axis=1)
    filled = table < columns
    twice = (table[:, 1:] == table[:, :-1]) & filled[:, 1:]
    if twice.any():
        row, slot = np.argwhere(twice)[0]
        raise _twice(int(row), int(table[row, slot]))
    return _edges(filled.sum(axis=1), table[filled])


def edges_of_adjacency(adjacency: NDArray[np.bool_]) -> Edges:
    """List what is set in a dense matrix: [rows, columns]."""
    return _edges(adjacency.sum(axis=1), np.nonzero(adjacency)[1])


def edges_of_pairs(
    row: NDArray[np.int64], column: NDArray[np.int64], rows: int, columns: int
) -> Edges:
    """Sort pairs of blocks, all in range. Raises ValueError for a pair given twice."""
    order = row * columns + column
    if (order[1:] <= order[:-1]).any():
        order.sort()
        twice = np.flatnonzero(order[1:] == order[:-1])
        if len(twice):
            raise _twice(*(int(part) for part in divmod(order[twice[0]], columns)))
        row, column = np.divmod(order, columns)
    return _edges(np.bincount(row, minlength=rows), column)


def sources_of(adjacency: NDArray[np.bool_]) -> IndexArray:
    """List the columns set in each row, ascending, -1 padded: [rows, largest count]."""
    edges = edges_of_adjacency(adjacency)
    return padded_rows(edges, int(np.diff(edges.indptr).max(initial=0)), 0, len(adjacency))


def padded_rows(edges: Edges, slots: int, first: int, last: int) -> IndexArray:
    """Return the left blocks of rows `first` to `last`, -1 past each row's count."""
    start, end = edges.indptr[first], edges.indptr[last]
    counts = np.diff(edges.indptr[first : last + 1])
    table = np.full((last - first, slots), -1, dtype=np.int32)
    table[np.arange(slots) < counts[:, None]] = edges.indices[start:end]
    return table


def _edges(counts: ArrayLike, columns: ArrayLike) -> Edges:
    indptr = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    return Edges(frozen(indptr, np.int64), frozen(columns, np.int32))


def frozen(array: ArrayLike, dtype: type[np.generic]) -> NDArray[Any]:
    """Return the numbers as a contiguous array that cannot be changed."""
    result = np.ascontiguousarray(array, dtype=dtype)
    result.setflags(write=False)
    return result


def _twice(row: int, column: int) -> ValueError:
    return ValueError(
        f"edge listed twice: right block {row} takes left block {column} "
        f"more than once; each pair may be connected once"
    )

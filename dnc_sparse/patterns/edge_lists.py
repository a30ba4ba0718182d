"""Patterns from lists of edges and from sparse matrices, in memory O(edges)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnc_sparse.patterns.edges import edges_of_pairs
from dnc_sparse.patterns.families import from_mask
from dnc_sparse.patterns.feasible import Block
from dnc_sparse.patterns.pattern import Pattern
from dnc_sparse.patterns.sizes import as_block, check_sizes, whole

Index = NDArray[np.int64]


def from_edges(
    rows: Any, columns: Any, *, n_in: int | None = None, n_out: int | None = None, block: Block = 1
) -> Pattern:
    """Make the pattern whose edge i runs from left neuron columns[i] to right neuron rows[i].

    rows, columns: [edges], in any order; arrays, tensors of any device, or lists of whole numbers.
    `n_in` and `n_out` default to the largest column and row, plus one. Memory and time are those of
    the edges. With a `block` the edges still are pairs of neurons, and fill whole blocks.

    Raises TypeError for numbers that are not whole, ValueError for lists of different lengths,
    neurons out of range, an edge listed twice, a block filled in part, and no edge at all where a
    size is to be inferred.
    """
    row, column = _numbers("rows", rows), _numbers("columns", columns)
    if len(row) != len(column):
        raise ValueError(
            f"rows and columns must be as long as each other, got {len(row)} and {len(column)}; "
            f"edge i runs from left neuron columns[i] to right neuron rows[i]"
        )
    n_out = _size("n_out", "rows", row, n_out)
    n_in = _size("n_in", "columns", column, n_in)
    size = as_block(block)
    check_sizes(n_in, n_out, size)
    if size != (1, 1):
        row, column = _blocks(row, column, n_in, size)
    shape = (n_out // size[0], n_in // size[1])
    return Pattern(n_in, n_out, edges_of_pairs(row, column, *shape), size)


def from_scipy(matrix: Any, block: Block = 1) -> Pattern:
    """Make the pattern whose edges are the stored entries of a sparse matrix [n_out, n_in].

    Any format of scipy's sparse matrices and arrays, and torch's sparse tensors of any layout and
    device. An entry stored as zero is an edge, as it counts in scipy's `nnz` (`eliminate_zeros()`
    drops it before); an entry stored twice is one edge, as scipy adds its parts up. Memory and
    time are those of the edges.

    Raises TypeError for anything else, ValueError for another number of dimensions, and as
    `from_edges`.
    """
    if _is_sparse_tensor(matrix):
        coordinates, shape = _tensor_coordinates(matrix), tuple(matrix.shape)
    elif hasattr(matrix, "tocoo"):
        listed = matrix.tocoo()
        coordinates, shape = tuple(listed.coords), listed.shape
    else:
        raise TypeError(
            f"from_scipy takes a sparse matrix of scipy or torch, got {type(matrix).__name__}; "
            f"dense ones are for from_mask"
        )
    if len(shape) != 2 or len(coordinates) != 2:
        raise ValueError(f"a sparse matrix must be [n_out, n_in], got shape {list(shape)}")
    n_out, n_in = (int(size) for size in shape)
    row, column = (np.asarray(part).astype(np.int64) for part in coordinates)
    flat = np.unique(row * n_in + column)
    row, column = np.divmod(flat, max(n_in, 1))
    return from_edges(row, column, n_in=n_in, n_out=n_out, block=block)


def as_pattern(pattern: Any, block: Block = 1) -> Pattern:
    """Return a pattern as it is, and make one of a mask or a sparse matrix.

    Raises as `from_mask` and `from_scipy`, and TypeError for what is none of them.
    """
    if isinstance(pattern, Pattern):
        return pattern
    if hasattr(pattern, "tocoo") or _is_sparse_tensor(pattern):
        return from_scipy(pattern, block)
    if hasattr(pattern, "__array__") or isinstance(pattern, (list, tuple)):
        return from_mask(pattern, block)
    raise TypeError(
        f"pattern must be a Pattern, a mask [n_out, n_in] or a sparse matrix, got {pattern!r}; "
        f"the name of a family goes to family="
    )


def _numbers(name: str, values: Any) -> Index:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a list of whole numbers: {error}") from error
    if array.ndim != 1:
        raise ValueError(f"{name} must be [edges], got shape {list(array.shape)}")
    if not array.size:
        return np.zeros(0, dtype=np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(
            f"{name} must be whole numbers, the positions of neurons, got {array.dtype}"
        )
    if array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must be numbers of neurons, got {array.max()}")
    return array.astype(np.int64)


def _size(name: str, list_name: str, neurons: Index, size: int | None) -> int:
    """Return the size asked for or inferred once the neurons are within it."""
    if size is None:
        if not len(neurons):
            raise ValueError(f"no edges tell no sizes; give {name}")
        if neurons.min() < 0:
            raise ValueError(
                f"{list_name} must be positions of neurons, from 0, got {neurons.min()}"
            )
        size = int(neurons.max()) + 1
    size = whole(name, size)
    if len(neurons) and (neurons.min() < 0 or neurons.max() >= size):
        raise ValueError(
            f"{list_name} must lie in 0..{size - 1} for {name} {size}, "
            f"got {neurons.min()}..{neurons.max()}"
        )
    return size


def _blocks(row: Index, column: Index, n_in: int, block: tuple[int, int]) -> tuple[Index, Index]:
    """Return the blocks that the edges fill. Raises ValueError for a block filled in part."""
    bo, bi = block
    columns = n_in // bi
    flat = np.sort(row * n_in + column)
    twice = np.flatnonzero(flat[1:] == flat[:-1])
    if len(twice):
        at_row, at_column = divmod(int(flat[twice[0]]), n_in)
        raise ValueError(
            f"edge listed twice: right neuron {at_row} takes left neuron {at_column} "
            f"more than once; each pair may be connected once"
        )
    blocks, filled = np.unique(row // bo * columns + column // bi, return_counts=True)
    partly = np.flatnonzero(filled < bo * bi)
    if len(partly):
        at_row, at_column = divmod(int(blocks[partly[0]]), columns)
        raise ValueError(
            f"block ({at_row}, {at_column}) has {filled[partly[0]]} of its {bo}x{bi} edges; "
            f"list all or none, or choose a smaller block"
        )
    block_row, block_column = np.divmod(blocks, columns)
    return block_row, block_column


def _is_sparse_tensor(matrix: Any) -> bool:
    return hasattr(matrix, "to_sparse_coo") and "strided" not in str(matrix.layout)


def _tensor_coordinates(matrix: Any) -> tuple[Any, ...]:
    """Return the places of the stored numbers of a sparse tensor, zeros among them."""
    coo = matrix.detach().cpu().to_sparse_coo()
    # a hybrid tensor's numbers are themselves vectors
    if coo.dense_dim():
        raise ValueError(
            f"a sparse matrix must be [n_out, n_in], got shape {list(matrix.shape)} with "
            f"{coo.dense_dim()} dense dimensions"
        )
    return tuple(coo._indices().numpy())

"""Edges as text, for the spec of a pattern that no family drew.

| format | what is recorded                                    | for                        |
|--------|-----------------------------------------------------|----------------------------|
| bits   | the block adjacency, a bit per pair                 | densities from `BITS_FROM` |
| "csr:" | edge blocks per row, then the gaps between columns: | others                     |
|        | first all lowest bytes, then the next ones          |                            |

Both are compressed by zlib and written in base64. Patterns were once all recorded as bits, and such
records are read for ever.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np

from dnc_sparse.patterns.edges import Edges, edges_of_adjacency, frozen

CSR = "csr:"
# density from which a bit per pair takes no more room than the gaps, and O(edges) memory
BITS_FROM = 1 / 8


def encode_edges(edges: Edges, columns: int) -> str:
    """Return the text from which `decode_edges` makes the same edges."""
    rows = len(edges.indptr) - 1
    if len(edges.indices) >= BITS_FROM * rows * columns:
        adjacency = np.zeros((rows, columns), dtype=bool)
        adjacency[np.repeat(np.arange(rows), np.diff(edges.indptr)), edges.indices] = True
        return _text(np.packbits(adjacency).tobytes())
    counts = np.diff(edges.indptr)
    gaps = np.diff(edges.indices, prepend=0)
    starts = edges.indptr[:-1][counts > 0]
    gaps[starts] = edges.indices[starts]
    numbers = np.concatenate((counts, gaps)).astype("<u4")
    return CSR + _text(numbers.view(np.uint8).reshape(-1, 4).T.tobytes())


def decode_edges(data: str, rows: int, columns: int) -> Edges:
    """Read what `encode_edges` has written. Raises ValueError for anything else."""
    try:
        if not data.startswith(CSR):
            bits = np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype=np.uint8)
            adjacency = np.unpackbits(bits)[: rows * columns].reshape(rows, columns)
            return edges_of_adjacency(adjacency.astype(bool))
        content = zlib.decompress(base64.b64decode(data.removeprefix(CSR)))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    planes = np.frombuffer(content, dtype=np.uint8).reshape(4, -1)
    numbers = np.ascontiguousarray(planes.T).view("<u4").reshape(-1).astype(np.int64)
    counts, gaps = numbers[:rows], numbers[rows:]
    if len(counts) != rows or counts.sum() != len(gaps):
        raise ValueError(f"{len(gaps)} edges do not fill rows of {counts.sum()}")
    indptr = np.concatenate(([0], np.cumsum(counts)))
    reached = np.cumsum(gaps)
    before = np.where(indptr > 0, reached[indptr - 1] if len(reached) else 0, 0)
    indices = reached - np.repeat(before[:-1], counts)
    starts = np.zeros(len(gaps), dtype=bool)
    starts[indptr[:-1][counts > 0]] = True
    if len(gaps) and (indices.max() >= columns or not (gaps[~starts] > 0).all()):
        raise ValueError("columns out of order or out of range")
    return Edges(frozen(indptr, np.int64), frozen(indices, np.int32))


def _text(content: bytes) -> str:
    # higher levels take 3 to 15 times as long for 2 % less
    return base64.b64encode(zlib.compress(content, 1)).decode()

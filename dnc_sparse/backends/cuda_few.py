"""The table of the CUDA kernel for a few samples, whose lanes run along the edges of a row.

| name    | meaning                                                        | shape         |
|---------|----------------------------------------------------------------|---------------|
| side    | side of a cell, a square of weights within a block: 1, 2 or 4  |               |
| columns | cells of inputs, n_in / side                                   |               |
| cells   | cells of a block row, slots * bi / side, in ascending order    |               |
| run     | neighbouring cells that a lane takes at once, 4 / side         |               |
| bank    | range of `depth` neighbouring cells of inputs                  |               |
| pitch   | from a row's offsets to the next's, a multiple of 4            |               |
| runs    | runs of a block row in each bank                               |               |
| offset  | place of a cell's inputs: in its bank, or among all            | [rows, pitch] |
| count   | cells of a block row                                           | [rows]        |

The shared memory of a GPU is 32 memory banks, word w in bank w % 32, and an access of 32 lanes
takes as many turns as its fullest bank. Weights are read as they lie, a run per lane. If every
block row takes equally many cells, whole runs, from each range of `depth` neighbouring inputs, then
each lane can be given the runs of one range, and that range be laid into one memory bank: lane b
reads bank b, and no two lanes ever meet. Clash-free patterns on blocked banks are of this kind,
which is the rule of the papers' memories: one read of each per cycle. Of any other pattern inputs
lie in their own order, where 32 random places fill a bank 3.5 deep.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnc_sparse.patterns import Pattern

LANES = 32
RUN_WEIGHTS = 4
SIDES = (4, 2, 1)
# offsets have 16 bits, and 8 within a bank
MOST_COLUMNS = 2**16
MOST_DEPTH = 2**8


@dataclass(frozen=True)
class FewTable:
    """A pattern's forward direction for few samples; tensors on the device that reads them."""

    side: int
    columns: int
    pitch: int
    depth: int
    runs: int
    offset: Tensor
    count: Tensor


def build(pattern: Pattern, device: torch.device) -> FewTable | None:
    """Number the inputs of each block row's cells; None where 16 bits cannot."""
    bo, bi = pattern.block
    side = next(s for s in SIDES if bo % s == 0 and bi % s == 0)
    parts = bi // side
    columns, run = pattern.columns * parts, RUN_WEIGHTS // side
    sources = np.maximum(pattern.sources, 0).astype(np.int64)
    cells = (sources[:, :, None] * parts + np.arange(parts)).reshape(pattern.rows, -1)
    counts = pattern.counts * parts
    depth, runs = (0, 1)
    if pattern.is_full:
        depth, runs = banks(cells, columns, run)
    if depth == 0 and columns > MOST_COLUMNS:
        return None
    pitch = -(-cells.shape[1] // RUN_WEIGHTS) * RUN_WEIGHTS
    offset = np.zeros((pattern.rows, pitch), dtype=np.int64)
    offset[:, : cells.shape[1]] = cells % depth if depth else cells
    return FewTable(
        side=side,
        columns=columns,
        pitch=pitch,
        depth=depth,
        runs=runs,
        # torch has few operations for unsigned numbers, and none is needed
        offset=torch.from_numpy(offset.astype(np.uint8 if depth else np.uint16).view(np.uint8)).to(
            device
        ),
        count=torch.from_numpy(counts.astype(np.int32)).to(device),
    )


def banks(cells: NDArray[np.int64], columns: int, run: int) -> tuple[int, int]:
    """Return (depth, runs) of banks for all lanes, each with whole runs of every row; or (0, 1)."""
    width = cells.shape[1]
    found = []
    for depth in range(1, min(MOST_DEPTH, columns // LANES) + 1):
        if columns % depth or width == 0 or width % (columns // depth * run):
            continue
        each = width // (columns // depth)
        if bool((cells // depth == np.arange(width) // each).all()):
            found.append((columns // depth % LANES != 0, depth, each // run))
    # all 32 lanes at work, where that can be had, and banks as small as they can be
    return min(found)[1:] if found else (0, 1)

"""The tables that the CUDA kernels read: a pattern's edges, in one direction, in quads.

| name    | meaning                                                       | shape                |
|---------|---------------------------------------------------------------|----------------------|
| outputs | neurons that are computed: right ones forward, left backward  |                      |
| columns | neurons that are read, the other side                         |                      |
| share   | outputs of a block that read the same columns together        | 1, 2 or 4            |
| groups  | outputs / share                                               |                      |
| tile    | columns whose samples stand in shared memory at once          |                      |
| first   | quad at which a group's edges in a tile begin, tile by tile   | [tiles * groups + 1] |
| offset  | column of an edge within its tile, `tile` for an empty edge   | [quads, 4]           |
| group   | group of a quad                                               | [quads]              |
| order   | flat slot (row * slots + slot) of an edge's block, -1 if empty| [quads, 4]           |

The edges of a group in a tile are in ascending order of their columns; the last of their quads is
filled up with empty edges, which read a column of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnc_sparse.patterns import Pattern

Direction = Literal["forward", "backward"]
Array = NDArray[np.int64]

QUAD = 4
SHARES = (4, 2, 1)


@dataclass(frozen=True)
class Table:
    """One direction of a pattern, cut into tiles; tensors on the device that reads them."""

    groups: int
    columns: int
    tile: int
    share: int
    output_block: int
    column_block: int
    first: Tensor
    offset: Tensor
    order: Tensor
    group: Tensor
    most: int

    @property
    def quads(self) -> int:
        """Quads in all; `most` is those of the fullest tile."""
        return self.order.shape[0]


def build(pattern: Pattern, direction: Direction, tile: int, device: torch.device) -> Table:
    """Cut one direction of a pattern into tiles of at most `tile` columns."""
    bo, bi = pattern.block
    if direction == "forward":
        blocks = pattern.rows, pattern.columns
        output_block, column_block = bo, bi
        row, slot = np.nonzero(pattern.sources >= 0)
        column, flat = pattern.sources[row, slot].astype(np.int64), row * pattern.slots + slot
    else:
        blocks = pattern.columns, pattern.rows
        output_block, column_block = bi, bo
        row, place = np.nonzero(pattern.targets >= 0)
        flat = pattern.targets[row, place].astype(np.int64)
        column = flat // pattern.slots
    share = next(s for s in SHARES if output_block % s == 0)
    groups, columns = blocks[0] * output_block // share, blocks[1] * column_block
    tile = min(tile, columns)

    # a block's edges: one per column for each of its groups of outputs
    per_block = output_block // share
    group = (row[:, None, None] * per_block + np.arange(per_block)[:, None]).repeat(column_block, 2)
    each = column[:, None, None] * column_block + np.arange(column_block)
    each = np.broadcast_to(each, group.shape).reshape(-1)
    flat = np.broadcast_to(flat[:, None, None], group.shape).reshape(-1)
    cell = each // tile * groups + group.reshape(-1)
    # edges come by row and ascending column, which a stable sort keeps within a cell
    sort = np.argsort(cell, kind="stable")
    cell, each, flat = cell[sort], each[sort], flat[sort]

    counts = np.bincount(cell, minlength=-(-columns // tile) * groups)
    quads = -(-counts // QUAD)
    first = np.concatenate(([0], np.cumsum(quads)))
    group_of = np.repeat(np.arange(len(quads)) % groups, quads)
    place = first[cell] * QUAD + np.arange(len(cell)) - (np.cumsum(counts) - counts)[cell]
    offset = np.full(first[-1] * QUAD, tile, dtype=np.uint16)
    order = np.full(first[-1] * QUAD, -1, dtype=np.int32)
    offset[place] = each % tile
    order[place] = flat
    return Table(
        groups=groups,
        columns=columns,
        tile=tile,
        share=share,
        output_block=output_block,
        column_block=column_block,
        first=torch.from_numpy(first).to(device),
        # torch has few operations for unsigned numbers, and none is needed
        offset=torch.from_numpy(offset.view(np.int16)).reshape(-1, QUAD).to(device),
        order=torch.from_numpy(order).reshape(-1, QUAD).to(device),
        group=torch.from_numpy(group_of.astype(np.int32)).to(device),
        most=int(quads.reshape(-1, groups).sum(1).max()),
    )

"""Families without banks: regular, random, and whatever a mask says."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np

from dnc_sparse.patterns.edges import edges_of_adjacency
from dnc_sparse.patterns.feasible import Block, exact_slots
from dnc_sparse.patterns.pattern import Pattern, recorded
from dnc_sparse.patterns.registry import family
from dnc_sparse.patterns.rng import Rng
from dnc_sparse.patterns.sizes import as_block, check_drawable, check_sizes, real

# sort keys below this bound are drawn from whole 64-bit words without bias
KEYS = 2**62
# pairs of blocks that a random pattern is drawn from, nine bytes each
MOST_PAIRS = 2**32


@family
def regular(
    n_in: int,
    n_out: int,
    *,
    fan_in: int | None = None,
    fan_out: int | None = None,
    density: float | None = None,
    block: Block = 1,
    seed: int = 0,
) -> Pattern:
    """Draw a pattern with equal fan_in, and fan_out equal or, where it cannot be, within one block.

    Rows are filled one after another: each takes its left blocks uniformly among those with free
    fan_out, and must take those that need every row that is left ("structured" in Dey et al.,
    arXiv 1812.01164, here with unequal capacities too). Not exactly uniform over all such patterns.

    Give one of `fan_in`, `fan_out` and `density`, in neurons. Raises ValueError, naming the
    feasible neighbours, for a fan_in or density that is no whole number of blocks, and for a
    fan_out that cannot be equal everywhere.
    """
    size = as_block(block)
    slots = exact_slots(
        n_in, n_out, size, fan_in=fan_in, fan_out=fan_out, density=density, constant_degrees=False
    )
    rows, columns = n_out // size[0], n_in // size[1]
    rng = Rng(seed)
    fewest, more = divmod(rows * slots, columns)
    wanted = fewest + (rng.permutation(columns) < more)
    sources = np.empty((rows, slots), dtype=np.int32)
    for row in range(rows):
        keys = rng.integers(KEYS, columns)
        keys[wanted == 0] += KEYS
        keys[wanted == rows - row] -= KEYS
        sources[row] = np.argpartition(keys, slots - 1)[:slots]
        wanted[sources[row]] -= 1
    return recorded("regular", n_in, n_out, size, sources, fan_in=slots * size[1], seed=seed)


@family
def random(n_in: int, n_out: int, *, density: float, block: Block = 1, seed: int = 0) -> Pattern:
    """Draw ceil(density * rows * columns) edge blocks uniformly, none twice; degrees vary.

    For comparison rather than speed: a neuron may stay unconnected. Memory is that of a dense mask
    while it is drawn. Raises ValueError for a density outside 0..1 and more pairs than can be drawn
    from, TypeError for one that is no number.
    """
    size = as_block(block)
    check_sizes(n_in, n_out, size)
    density = real("density", density)
    if not 0 <= density <= 1:
        raise ValueError(f"density must lie in 0..1, got {density:g}")
    shape = (n_out // size[0], n_in // size[1])
    total = shape[0] * shape[1]
    check_drawable(n_in, n_out, density * n_in * n_out, size)
    if total > MOST_PAIRS:
        raise ValueError(
            f"a random {n_in} -> {n_out} pattern is drawn from all of its {total:,} pairs of "
            f"blocks, which would take {9 * total / 2**30:,.0f} GiB; draw the edges yourself and "
            f"give them to patterns.from_edges, or choose the regular family"
        )
    # a density that was meant as a whole number of edges must not gain one by rounding
    count = min(ceil(density * total - 1e-9 * total), total)
    adjacency = np.zeros(total, dtype=bool)
    if count:
        keys = Rng(seed).integers(KEYS, total)
        adjacency[np.argpartition(keys, count - 1)[:count]] = True
    edges = edges_of_adjacency(adjacency.reshape(shape))
    return recorded("random", n_in, n_out, size, edges, density=density, seed=seed)


def from_mask(mask: Any, block: Block = 1) -> Pattern:
    """Make the pattern whose edges are the nonzeros of `mask` [n_out, n_in].

    An array, a tensor of any device or nested lists. Raises ValueError for another number of
    dimensions, and for a block that is neither wholly set nor wholly unset; TypeError for a sparse
    matrix, which `from_scipy` takes.
    """
    if hasattr(mask, "tocoo") or "strided" not in str(getattr(mask, "layout", "strided")):
        raise TypeError(
            f"from_mask takes a dense mask, got {type(mask).__name__} in a sparse layout; "
            f"from_scipy takes it as it is"
        )
    if hasattr(mask, "detach"):
        mask = mask.detach().cpu()
    dense = np.asarray(mask) != 0
    if dense.ndim != 2:
        raise ValueError(f"a mask must be [n_out, n_in], got shape {list(dense.shape)}")
    n_out, n_in = dense.shape
    bo, bi = size = as_block(block)
    check_sizes(n_in, n_out, size)
    filled = dense.reshape(n_out // bo, bo, n_in // bi, bi).sum(axis=(1, 3))
    partly = (filled > 0) & (filled < bo * bi)
    if partly.any():
        row, column = np.argwhere(partly)[0]
        raise ValueError(
            f"block ({row}, {column}) of the mask has {filled[row, column]} of its {bo}x{bi} "
            f"entries set; set all or none, or choose a smaller block"
        )
    return Pattern(n_in, n_out, edges_of_adjacency(filled > 0), size)

"""The access rule of clash-free patterns, apart from the draws that feed it.

| name    | meaning                                                    | shape                  |
|---------|------------------------------------------------------------|------------------------|
| z       | banks: left memories, and edges processed per cycle        |                        |
| D       | depth: words of a bank, columns / z                        |                        |
| P, R, S | columns, rows and slots of the junction (in blocks)        |                        |
| F       | sweeps, R * S / P; every left block is read once in each   |                        |
| v       | order: the bank that slot k of every cycle of a sweep reads | [F, z]                |
| t       | addresses: what slot k reads in cycle q of a sweep         | [F, D, z]              |
| left    | left block read by slot k of cycle c                       | [F * D, z]             |
| seed    | first address of a bank in a sweep (kinds 2 and 3)         | [z]                    |

Edge e = c * z + k belongs to right block row e // S, so a row straddles two sweeps where S does not
divide P. The rule is that of Dey et al. (arXiv 1812.01164) and their published code; there, kinds 1
and 2 can give a straddling row the same edge twice. Here the sweep that ends such a row is drawn
uniformly among those that do not, which always exist: the last a reads of a sweep and the first
b reads of the next, a + b = S <= P, never ask more than D reads of any bank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnc_sparse.patterns.rng import Rng

IntArray = NDArray[np.int64]
BankMap = Literal["blocked", "interleaved"]
BANK_MAPS: tuple[BankMap, ...] = ("blocked", "interleaved")


@dataclass(frozen=True)
class Grid:
    """Sizes of a banked junction in blocks; `banks` divides `columns` and F comes out whole."""

    columns: int
    rows: int
    slots: int
    banks: int

    @property
    def depth(self) -> int:
        """Words of a bank."""
        return self.columns // self.banks

    @property
    def sweeps(self) -> int:
        """Times every left block is read."""
        return self.rows * self.slots // self.columns


def bank_of(left: IntArray, columns: int, banks: int, bank_map: BankMap) -> IntArray:
    """Return the bank that holds each left block; shape of `left`."""
    return left // (columns // banks) if bank_map == "blocked" else left % banks


def read_order(addresses: IntArray, order: IntArray, bank_map: BankMap) -> IntArray:
    """Return the left block of every read, [F * D, z], from t [F, D, z] and v [F, z]."""
    sweeps, depth, banks = addresses.shape
    bank = order[:, None, :]
    left = bank * depth + addresses if bank_map == "blocked" else addresses * banks + bank
    reads: IntArray = left.reshape(sweeps * depth, banks)
    return reads


def draw(grid: Grid, kind: int, dither: bool, rng: Rng) -> tuple[IntArray, IntArray]:
    """Draw t [F, D, z] and v [F, z] of a kind, restricted only where a row straddles sweeps."""
    depth, banks = grid.depth, grid.banks
    addresses = np.empty((grid.sweeps, depth, banks), dtype=np.int64)
    order = np.empty((grid.sweeps, banks), dtype=np.int64)
    for sweep in range(grid.sweeps):
        if kind == 3 and sweep:
            addresses[sweep], order[sweep] = addresses[0], order[0]
            continue
        tail = sweep * grid.columns % grid.slots
        head = grid.slots - tail if tail else 0
        taken = np.zeros((banks, depth), dtype=bool)
        if tail:
            last = np.arange(grid.columns - tail, grid.columns)
            bank = order[sweep - 1][last % banks]
            taken[bank, addresses[sweep - 1].reshape(-1)[last]] = True
        full = taken.sum(axis=1) + head // banks >= depth
        order[sweep] = _permutations(rng, full[None], head % banks)[0] if dither else range(banks)
        taken = taken[order[sweep]]
        reads = head // banks + (np.arange(banks) < head % banks)
        if kind == 1:
            addresses[sweep] = _permutations(rng, taken, reads[:, None]).T
        else:
            addresses[sweep] = (np.arange(depth)[:, None] + _seeds(rng, taken, reads)) % depth
    return addresses, order


def _permutations(rng: Rng, forbidden: NDArray[np.bool_], head: int | IntArray) -> IntArray:
    """Draw uniform permutations, [count, n], whose first `head` entries are not `forbidden`."""
    count, n = forbidden.shape
    drawn = rng.permutations(count, n)
    if not forbidden.any():
        return drawn
    passed_over = np.take_along_axis(forbidden, drawn, axis=1)
    front = np.argsort(passed_over, axis=1, kind="stable")
    drawn = np.take_along_axis(drawn, front, axis=1)
    # what was passed over must not come early in the rest, so the rest is drawn afresh
    rest = rng.permutations(count, n)
    place = np.arange(n)
    keys = np.where(place < head, place - n, rest)
    return np.take_along_axis(drawn, np.argsort(keys, axis=1), axis=1)


def _seeds(rng: Rng, taken: NDArray[np.bool_], reads: IntArray) -> IntArray:
    """Draw a first address per slot, [z], whose next `reads` miss the interval taken: [z, D]."""
    depth = taken.shape[1]
    count = taken.sum(axis=1)
    bound = (count > 0) & (reads > 0)
    # the taken addresses are a cyclic interval: it ends where `taken` falls
    falls = taken & ~np.roll(taken, -1, axis=1)
    after = np.argmax(falls, axis=1) + 1
    free = np.where(bound, depth - count - reads + 1, depth)
    drawn = rng.integers(2**62, len(count)) % free
    seeds: IntArray = (np.where(bound, after, 0) + drawn) % depth
    return seeds

"""What this machine can do at most, as far as a short probe with torch shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dnc_sparse.bench.dense import onednn_product, onednn_unavailable

SIDE = 2048
MIB = 2**20
MEMORY_BYTES = 256 * MIB
# about the activations of the junction in the pictures
CACHE_BYTES = MIB
REPEATS = 15


@dataclass(frozen=True)
class Roofs:
    """Rates that were reached: operations, and bytes to and from memory and a core's caches."""

    flops_per_s: float
    memory_bytes_per_s: float
    cache_bytes_per_s: float


def probe() -> Roofs:
    """Measure the roofs in float32 with torch's thread count, in about a second.

    The rate is that of a large product by oneDNN (torch's own where there is none): a practical
    roof, some way below the processor's. Bytes are those that a copy reads and writes.
    """
    matrix = torch.randn(SIDE, SIDE)
    product = torch.mm if onednn_unavailable() else onednn_product
    return Roofs(
        flops_per_s=2 * SIDE**3 / _least_seconds(lambda: product(matrix, matrix)),
        memory_bytes_per_s=_copy_bytes_per_s(MEMORY_BYTES),
        cache_bytes_per_s=_copy_bytes_per_s(CACHE_BYTES),
    )


def _copy_bytes_per_s(n_bytes: int) -> float:
    """Return the rate of copying one half of so many bytes onto the other."""
    source, target = torch.ones(2, n_bytes // 8)
    return n_bytes / _least_seconds(lambda: target.copy_(source))


def _least_seconds(function: Callable[[], object]) -> float:
    """Return the shortest of several times: a roof is what was reached once."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)

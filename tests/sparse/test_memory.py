"""The sparse path never holds a matrix of n_out x n_in, not for a moment."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from dnc_sparse import SparseLinear
from dnc_sparse.backends import planner
from dnc_sparse.machine import PROC, PeakMemory

N, BATCH = 4096, 64
MATRIX_BYTES = 4 * N * N


def step(layer: SparseLinear) -> None:
    x = torch.randn(BATCH, N, requires_grad=True)
    layer(x).square().sum().backward()
    layer.zero_grad()


def largest_tensor_bytes(layer: SparseLinear) -> int:
    """Return the bytes of the largest memory that torch hands out in a training step."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step(layer)
    events = found.profiler.kineto_results.events()
    return max(event.nbytes() for event in events if event.name() == "[memory]")


@pytest.fixture(scope="module")
def layer() -> SparseLinear:
    return SparseLinear(N, N, density=1 / 8)


@pytest.mark.parametrize("mode", ["sparse", "measured"])
def test_no_tensor_is_as_large_as_the_dense_matrix(layer: SparseLinear, mode: planner.Mode) -> None:
    with planner.use(mode):
        step(layer)
        # the largest is the gradient of the weights
        assert largest_tensor_bytes(layer) == MATRIX_BYTES / 8


def test_the_dense_matrix_would_be_seen(layer: SparseLinear) -> None:
    with planner.use("dense"):
        assert largest_tensor_bytes(layer) == MATRIX_BYTES


@pytest.mark.skipif(not (PROC / "self/clear_refs").exists(), reason="needs Linux's peak memory")
def test_nor_do_the_kernels_hold_one(layer: SparseLinear) -> None:
    with planner.use("sparse"):
        step(layer)
        peak = PeakMemory()
        step(layer)
        assert peak.mib() * 2**20 < MATRIX_BYTES / 2
    with planner.use("dense"):
        peak = PeakMemory()
        step(layer)
        assert peak.mib() * 2**20 > MATRIX_BYTES

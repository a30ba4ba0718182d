"""One group per junction and operation, one row per candidate, dense first."""

from __future__ import annotations

import pytest
import torch
from shapes import JUNCTIONS

from dnc_sparse import bench
from dnc_sparse.patterns import nearest

THREADS = [1, 2]


@pytest.fixture(params=THREADS, ids=lambda n: f"{n} thread{'s' * (n > 1)}")
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("candidate", ["nn.Linear", "SparseLinear", "torch.sparse CSR"])
@pytest.mark.parametrize("operation", bench.OPERATIONS)
@pytest.mark.parametrize("junction", JUNCTIONS, ids=str)
def test_junction(benchmark, junction, operation, candidate, threads):
    n_in, n_out, batch, density, block = junction
    shape = f"{n_in} -> {n_out}, batch {batch}, 1/{1 / density:.0f}, {block}x{block}"
    benchmark.group = f"{operation} {shape}, {threads} threads"
    pattern = nearest(n_in, n_out, density=density, block=block)
    bench.measure(pattern, batch, rounds=1)
    found = {c.name: c for c in bench.candidates(pattern)}
    x, grad_y = torch.randn(batch, n_in), torch.randn(batch, n_out)
    benchmark(found[candidate].operation(operation, x, grad_y))

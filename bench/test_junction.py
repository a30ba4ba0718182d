"""One group per junction, operation and thread count; one row per candidate, dense first.

`pytest bench --benchmark-enable` times them; the test suite runs each once, without a clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from shapes import JUNCTIONS

from dnc_sparse import bench
from dnc_sparse.patterns import Pattern, nearest

CANDIDATES = ["nn.Linear", "SparseLinear", "torch.sparse CSR"]


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@cache
def checked_pattern(n_in: int, n_out: int, batch: int, density: float, block: int) -> Pattern:
    """Draw the pattern and let `measure` compare every candidate's results with the oracle."""
    pattern = nearest(n_in, n_out, density=density, block=block)
    bench.measure(pattern, batch, rounds=1)
    return pattern


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("operation", bench.OPERATIONS)
@pytest.mark.parametrize("junction", JUNCTIONS, ids=str)
def test_junction(
    benchmark: BenchmarkFixture,
    junction: tuple[int, int, int, float, int],
    operation: str,
    candidate: str,
    threads: int,
) -> None:
    n_in, n_out, batch, density, block = junction
    shape = f"{n_in} -> {n_out}, batch {batch}, 1/{1 / density:.0f}, {block}x{block}"
    benchmark.group = f"{operation} {shape}, {threads} threads"
    pattern = checked_pattern(*junction)
    found = {c.name: c for c in bench.candidates(pattern)}
    x, grad_y = torch.randn(batch, n_in), torch.randn(batch, n_out)
    benchmark(found[candidate].operation(operation, x, grad_y))

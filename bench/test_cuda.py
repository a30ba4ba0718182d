"""What a pattern's banks are worth on a GPU: few samples, a clash-free, a random, a dense junction.

The sparse rows of a group have equally many weights. `pytest bench/test_cuda.py --benchmark-enable`
on a machine with a GPU. Nothing clears the second cache between calls, so the times are those of
weights that lie there as far as they fit.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from support import normals
from torch import Tensor

from dnc_sparse.backends import cuda, reference
from dnc_sparse.patterns import Pattern, clash_free, regular

SIZE, DENSITY = 4096, 1 / 8
CALLS = 20


def pattern_of(kind: str, block: int) -> Pattern:
    family = clash_free if kind == "clash free" else regular
    return family(SIZE, SIZE, density=DENSITY, block=block)


@pytest.mark.parametrize("kind", ["dense", "random", "clash free"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("block", [1, 4])
def test_few_samples(
    benchmark: BenchmarkFixture, block: int, batch: int, dtype: torch.dtype, kind: str
) -> None:
    if (reason := cuda.unavailable("cuda", dtype)) is not None:
        pytest.skip(f"cuda: {reason}")
    case = normals(pattern_of(kind, block), batch, dtype).map(lambda t: t.cuda())
    benchmark.group = f"{batch} samples, {dtype}, block {block}"
    if kind == "dense":
        weight = reference.dense_weight(case.weight, case.pattern)
        benchmark(replayed(lambda: torch.nn.functional.linear(case.x, weight, case.bias)))
        return
    run = replayed(lambda: cuda.forward(case.x, case.weight, case.bias, case.pattern))
    truth = case.map(lambda t: t.double()).results(reference)["forward"]
    size = case.map(lambda t: t.double().abs()).results(reference)["forward"]
    error = (run().double() - truth).abs()
    assert bool((error <= reference.error_bound(truth, size, dtype)).all())
    benchmark(run)


def replayed(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Capture some calls in a graph, so that the clock sees the device and not Python."""
    function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            result = function()

    def run() -> Tensor:
        graph.replay()
        torch.cuda.synchronize()
        return result

    return run

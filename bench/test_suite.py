"""One group per operation, junction and thread count; one row per candidate.

The junctions are those of the suite, heavy ones left out, with the candidates it compares there;
and every candidate on two of them. `pytest bench --benchmark-enable` times them; the test suite
runs each once, without a clock, after its results were compared with the oracle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from dnc_sparse.bench import CANDIDATES, OPERATIONS
from dnc_sparse.bench.candidates import Bench
from dnc_sparse.bench.cpu_suite import CPU_SUITE
from dnc_sparse.bench.measures import BASE, Run, Setting
from dnc_sparse.bench.timer import threads_restored

# compiling takes longer than everything else together
EVERY = [name for name in CANDIDATES if name != "gather-compiled"]


def runs() -> list[Run]:
    """Return each run once, those of one junction and operation together, dense first."""
    measured = [
        replace(run, threads=None)
        for measure in CPU_SUITE
        if not measure.heavy
        for run in (measure.against, measure.run)
    ]
    every = [
        Run(name, operation, setting)
        for setting in (BASE, replace(BASE, block=4))
        for operation in OPERATIONS
        for name in EVERY
        if operation not in CANDIDATES[name].lacks
    ]
    names = list(CANDIDATES)
    return sorted(
        dict.fromkeys(measured + every),
        key=lambda run: (str(run.setting), run.operation, names.index(run.candidate)),
    )


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    with threads_restored():
        yield


@lru_cache(maxsize=1)
def bench_of(setting: Setting) -> Bench:
    return Bench(setting.problem())


@pytest.mark.parametrize("threads", [1, 2], ids=["1 thread", "2 threads"])
@pytest.mark.parametrize(
    "run", runs(), ids=lambda run: f"{run.setting}-{run.operation}-{run.candidate}"
)
def test_run(benchmark: BenchmarkFixture, run: Run, threads: int) -> None:
    bench = bench_of(run.setting)
    reason = bench.unavailable(run.candidate, run.operation)
    if reason is not None:
        pytest.skip(f"{CANDIDATES[run.candidate].name}: {reason}")
    benchmark.group = f"{run.operation} {run.setting}, {threads} threads"
    torch.set_num_threads(threads)
    benchmark(bench.operation(run.candidate, run.operation))

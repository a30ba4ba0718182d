"""The candidates, the timer and the bench command on one junction; no test looks at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dnc_sparse import bench
from dnc_sparse.backends import cpu
from dnc_sparse.bench import dense, gpu_peers, peers, timer
from dnc_sparse.bench.candidates import Bench
from dnc_sparse.cli import main
from dnc_sparse.patterns import nearest, random

# compiling it takes as long as all other tests of this file
SLOW = "gather-compiled"
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
SMALL = ["--n-in", "32", "--n-out", "16", "--batch", "4", "--rounds", "1"]


def problem(
    dtype: torch.dtype = torch.float32, *, density: float = 0.5, block: int = 1, batch: int = 16
) -> bench.Problem:
    return bench.Problem(nearest(64, 32, density=density, block=block), batch, dtype)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("batch", [1, 16, 17])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_candidate_agrees_with_the_oracle(dtype: torch.dtype, batch: int, block: int) -> None:
    found = Bench(problem(dtype, block=block, batch=batch))
    for name in bench.CANDIDATES.keys() - {SLOW}:
        for operation in bench.OPERATIONS:
            if found.unavailable(name, operation) is None:
                # compares with the oracle
                assert len(found.operation(name, operation)()) in (1, 4)


@pytest.mark.parametrize("operation", bench.OPERATIONS)
def test_what_computes_in_float32(operation: str) -> None:
    can = [name for name, kind in bench.CANDIDATES.items() if operation not in kind.lacks]
    assert can[:6] == ["linear", "sparse", "onednn", "bfloat16", "masked", "csr"]
    others = {"bsr", "scipy", "sparseprop", "sparselab", "gather", SLOW}
    assert set(can[6:]) <= others | {"gather-bmm", "two-four", "stk", "blksprs"}


@pytest.mark.parametrize(
    ("name", "operation", "asked", "reason"),
    [
        (
            "csr",
            "step",
            problem(torch.bfloat16),
            "it computes in float32, float64, not in bfloat16",
        ),
        ("onednn", "step", problem(torch.float64), "it computes in float32, bfloat16, not in f"),
        ("bfloat16", "step", problem(torch.bfloat16), "nn.Linear itself is in bfloat16 here"),
        ("bsr", "forward", problem(), "the pattern has no blocks"),
        ("bsr", "step", problem(block=4), "torch has no gradients of BSR products"),
        ("bsr", "forward", problem(torch.bfloat16, block=4), "on the CPU it computes in float32"),
        ("two-four", "forward", problem(torch.bfloat16), "it computes on CUDA devices"),
        ("two-four", "step", problem(torch.bfloat16), "only its forward pass takes a fixed patt"),
        ("gather-bmm", "forward", problem(), "the pattern has no blocks"),
        ("gather-bmm", "grad_weight", problem(block=4), "its gradients come from autograd"),
        (
            *("gather-bmm", "forward"),
            bench.Problem(random(64, 32, density=0.3, block=4, seed=0), 4),
            "its outputs must all have the same fan_in",
        ),
        ("scipy", "step", problem(), "scipy has no gradients"),
        ("scipy", "grad_weight", problem(), "scipy has no product sampled at a pattern"),
        ("sparseprop", "grad_input", problem(), "SparseProp fuses both gradients in one pass"),
        ("sparselab", "grad_weight", problem(), "SparseLab computes both gradients in its back"),
        ("sparselab", "step", problem(torch.float64), "it computes in float32, not in float64"),
        ("gather", "step", problem(), "SRigL trains a masked dense layer; the condensed form"),
        ("gather", "forward", problem(batch=2**17), "it would gather 512 MiB; more than 256 is "),
        (
            *("gather", "forward"),
            bench.Problem(random(64, 32, density=0.3, seed=0), 4),
            "its outputs must all have the same fan_in",
        ),
    ],
)
def test_why_a_candidate_cannot(
    name: str, operation: str, asked: bench.Problem, reason: str
) -> None:
    said = bench.CANDIDATES[name].unavailable(asked, operation)
    assert said is not None
    assert said.startswith(reason)


def test_what_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "is_installed", lambda name: False)
    assert peers.SparseProp.unavailable(problem(), "step") == (
        "sparseprop is not installed: make peers, or see docs/benchmarks.md"
    )
    assert peers.SparseLab.unavailable(problem(), "step") == (
        "sparselab is not installed: pip install --no-deps sparselab==0.2.2"
    )
    monkeypatch.setattr(gpu_peers, "find_spec", lambda name: None)
    half = problem(torch.bfloat16, block=4)
    assert gpu_peers.Stk.unavailable(half, "step") == (
        "stk is not installed: pip install --no-build-isolation stanford-stk==0.7.1"
    )
    assert gpu_peers.Blksprs.unavailable(half, "step") == (
        "blksprs is not installed: pip install blksprs==2.5"
    )
    monkeypatch.setattr(gpu_peers, "find_spec", lambda name: object())
    assert gpu_peers.Stk.unavailable(half, "step") == "it has only blocks of 128"
    assert gpu_peers.Blksprs.unavailable(half, "step") == "it has square blocks from 16 on"
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert dense.OneDnnLinear.unavailable(problem(), "step") == (
        "this torch was built without oneDNN"
    )


def test_measures_every_candidate_in_both_operations() -> None:
    timings = bench.measure(nearest(32, 16, density=0.25), 8, rounds=1)
    names = ["nn.Linear", "SparseLinear", "oneDNN dense", "torch.sparse CSR"]
    assert [row.candidate for row in timings] == names * 2
    assert [row.operation for row in timings] == ["forward"] * 4 + ["step"] * 4
    assert all(row.seconds is not None and row.seconds > 0 for row in timings)
    assert timings[0].ratio_to_dense == 1


def test_a_candidate_that_cannot_keeps_its_place() -> None:
    pattern = nearest(32, 16, density=0.25)
    timings = bench.measure(pattern, 8, torch.bfloat16, rounds=1, against=["csr", "onednn"])
    assert [row.candidate for row in timings[1:4]] == [
        *("SparseLinear", "torch.sparse CSR", "oneDNN dense")
    ]
    csr = timings[2]
    assert csr.seconds is None
    assert csr.ratio_to_dense is None
    assert csr.unavailable == "it computes in float32, float64, not in bfloat16"


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    true = cpu.forward
    monkeypatch.setattr(cpu, "forward", lambda *arguments: true(*arguments) + 1)
    with pytest.raises(
        AssertionError, match=r"^SparseLinear forward: y is .* over the error bound$"
    ):
        bench.measure(nearest(32, 16, density=0.25), 8, rounds=1)


@pytest.mark.parametrize(("wrong", "name"), [(0, "x"), (1, "weight"), (2, "bias")])
def test_a_wrong_gradient_is_not_timed(
    wrong: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = cpu.backward
    monkeypatch.setattr(
        cpu, "backward", lambda *a: tuple(g + (i == wrong) for i, g in enumerate(true(*a)))
    )
    with pytest.raises(AssertionError, match=rf"^SparseLinear step: gradient of {name} is "):
        bench.measure(nearest(32, 16, density=0.25), 8, rounds=1)


def test_rounds_run_everything_in_turn() -> None:
    calls: list[int] = []
    functions = [lambda: calls.append(0), lambda: calls.append(1)]
    medians = bench.interleaved(functions, rounds=3)
    assert calls == [0, 1] * 5
    assert len(medians) == 2
    with pytest.raises(ValueError, match=r"^timing needs at least 1 round, got 0$"):
        bench.interleaved([], rounds=0)


def test_hot_rounds_run_each_several_times() -> None:
    calls: list[int] = []
    bench.interleaved([lambda: calls.append(0), lambda: calls.append(1)], rounds=1, hot=True)
    assert calls == ([0] * (timer.HOT_CALLS + 1) + [1] * (timer.HOT_CALLS + 1)) * 3


def test_each_function_has_its_threads() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    look = [lambda: seen.append(torch.get_num_threads())] * 2
    bench.interleaved(look, rounds=1, threads=[2, 1])
    assert seen == [2, 1] * 3
    assert torch.get_num_threads() == before


def test_a_spent_budget_ends_the_rounds() -> None:
    calls: list[int] = []
    bench.interleaved([lambda: calls.append(0)], rounds=100, budget_s=0)
    assert len(calls) == timer.WARM_UP_ROUNDS + timer.LEAST_ROUNDS


def test_unknown_names_list_the_known() -> None:
    candidate = bench.CANDIDATES["linear"](problem().layer)
    with pytest.raises(ValueError, match=r"^unknown operation 'sideways'; known ones: forward, st"):
        candidate.operation("sideways", torch.zeros(1, 8), torch.zeros(1, 8))
    with pytest.raises(ValueError, match=r"^unknown operation 'sideways'; known ones: forward, st"):
        candidate.unavailable(problem(), "sideways")
    with pytest.raises(ValueError, match=r"^unknown candidate 'abacus'; known ones: linear, spa"):
        bench.measure(nearest(32, 16, density=0.25), 8, against=["abacus"])


def test_command_prints_ratios_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    assert run(*SMALL, "--density", "0.5,0.25", "--json", str(path)) == 0
    shown = capsys.readouterr().out
    assert "SparseLinear" in shown
    assert "oneDNN dense" in shown
    assert "32 -> 16, batch 4, float32" in shown
    record = json.loads(path.read_text())
    assert len(record["junctions"]) == 2
    assert record["machine"]["torch"] == torch.__version__
    assert record["peers"].keys() >= {"scipy", "sparseprop"}


def test_command_says_why_there_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SMALL, "--density", "0.5", "--against", "scipy,masked") == 0
    shown = capsys.readouterr().out
    assert "masked dense" in shown
    assert "scipy CSR step: scipy has no gradients" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtype", "int8"], "unknown dtype 'int8'; choose among float32, float64, bfloat16"),
        (["--against", "abacus"], "unknown candidate 'abacus'; known ones: linear, sparse, onednn"),
        (["--suite", "tpu"], "unknown suite 'tpu'; known ones: cpu"),
        (
            ["--suite", "cpu", "--n-in", "64"],
            "leave out --n-in: the measures of --suite cpu have their own",
        ),
        (["--quick"], "leave out --quick: it goes with --suite"),
        (["--plot", "somewhere"], "leave out --plot: it goes with --suite"),
    ],
)
def test_command_refuses(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err

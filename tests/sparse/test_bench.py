"""The timer and the bench command; no test looks at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dnc_sparse import bench
from dnc_sparse.backends import cpu
from dnc_sparse.cli import main
from dnc_sparse.patterns import nearest


@pytest.mark.parametrize(
    ("dtype", "names"),
    [
        (torch.float32, ["nn.Linear", "SparseLinear", "torch.sparse CSR"]),
        (torch.bfloat16, ["nn.Linear", "SparseLinear"]),
    ],
    ids=str,
)
def test_measures_every_candidate_in_both_operations(dtype: torch.dtype, names: list[str]) -> None:
    timings = bench.measure(nearest(32, 16, density=0.25), 8, dtype, rounds=1)
    assert [row.candidate for row in timings] == names * 2
    assert [row.operation for row in timings] == ["forward"] * len(names) + ["step"] * len(names)
    assert all(row.seconds > 0 for row in timings)
    assert timings[0].ratio_to_dense == 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("forward", r"^SparseLinear forward: y is .* over the error bound$"),
        ("grad_input", r"^SparseLinear step: gradient of x is "),
        ("grad_weight", r"^SparseLinear step: gradient of weight is "),
    ],
)
def test_a_wrong_result_is_not_timed(
    function: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = getattr(cpu, function)
    monkeypatch.setattr(cpu, function, lambda *arguments: true(*arguments) + 1)
    with pytest.raises(AssertionError, match=message):
        bench.measure(nearest(32, 16, density=0.25), 8, rounds=1)


def test_medians_come_in_order() -> None:
    calls: list[int] = []
    medians = bench.interleaved([lambda: calls.append(0), lambda: calls.append(1)], rounds=3)
    assert calls == [0, 1] * 5
    assert len(medians) == 2
    with pytest.raises(ValueError, match=r"^timing needs at least 1 round, got 0$"):
        bench.interleaved([], rounds=0)


def test_unknown_operation_lists_the_known() -> None:
    candidate = bench.candidates(nearest(8, 8, density=0.5))[0]
    with pytest.raises(ValueError, match=r"^unknown operation 'sideways'; known ones: forward, st"):
        candidate.operation("sideways", torch.zeros(1, 8), torch.zeros(1, 8))


def test_command_prints_ratios_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    sizes = ["--n-in", "32", "--n-out", "16", "--batch", "4", "--rounds", "1"]
    with pytest.raises(SystemExit) as stop:
        main(["bench", *sizes, "--density", "0.5,0.25", "--json", str(path)])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "SparseLinear" in shown
    assert "32 -> 16, batch 4, float32" in shown
    record = json.loads(path.read_text())
    assert len(record["junctions"]) == 2
    assert record["machine"]["torch"] == torch.__version__


def test_command_refuses_an_unknown_dtype(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--dtype", "int8"])
    assert stop.value.code == 2
    assert (
        "unknown dtype 'int8'; choose among float32, float64, bfloat16" in capsys.readouterr().err
    )

"""`bench/gpu.py` without a GPU: parts end as they do, and what passed is not repeated."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu.py"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(SCRIPT.parent)
    script = runpy.run_path(str(SCRIPT), run_name="gpu")
    # functions see the module's own names
    return script["main"].__globals__  # type: ignore[no-any-return]


@pytest.fixture
def run(gpu: dict[str, Any], tmp_path: Path) -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(gpu["main"])
    return lambda *options: CliRunner().invoke(app, ["--out", str(tmp_path), *options])


def part(gpu: dict[str, Any], name: str, code: str, limit_s: int = 60) -> Any:
    return gpu["Part"](name, [sys.executable, "-c", code], limit_s)


def test_every_part_exists(gpu: dict[str, Any], tmp_path: Path) -> None:
    parts = gpu["parts"](tmp_path)
    assert [own.name for own in parts] == [
        *("card", "build", "info", "device tests", "block kernels", "sanitizer", "compile"),
        *("suite", "model", "all tests"),
    ]
    files = [word for own in parts for word in own.command if word.endswith(".py")]
    assert all(Path(file).exists() for file in files)
    assert any("test_gpu.py" in file for file in files)
    modules = {b for own in parts for a, b in pairwise(own.command) if a == "-m"}
    assert modules == {"pip", "pytest", "dnc_sparse"}
    done = subprocess.run(
        [sys.executable, "-m", "dnc_sparse", "bench", "--help"], capture_output=True, check=True
    )
    assert b"--suite" in done.stdout


def test_parts_end_as_they_do(
    gpu: dict[str, Any], run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "count"
    parts = [
        part(gpu, "good", f"open({str(count)!r}, 'a').write('x'); print('fine')"),
        part(gpu, "bad", "raise SystemExit('it hurts')"),
        part(gpu, "slow", "import time; time.sleep(60)", limit_s=1),
        gpu["Part"]("missing", ["no-such-program"], 5),
    ]
    monkeypatch.setitem(gpu, "parts", lambda out: parts)
    done = run()
    assert done.exit_code == 1
    state = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: own["status"] for name, own in state.items()} == {
        "good": "passed", "bad": "failed", "slow": "took too long", "missing": "failed",
    }  # fmt: skip
    assert "it hurts" in done.output
    assert "fine" in (tmp_path / "gpu.log").read_text()
    # what passed is not repeated, the rest is, if asked for
    parts[1:] = [part(gpu, name, "pass") for name in ("bad", "slow", "missing")]
    assert run("--parts", "bad,slow").exit_code == 1
    assert run().exit_code == 0
    assert count.read_text() == "x"
    # another commit is another program
    monkeypatch.setitem(gpu, "_git", lambda *arguments: "another")
    assert run().exit_code == 0
    assert count.read_text() == "xx"


def test_no_part_starts_too_late(
    gpu: dict[str, Any], run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gpu, "parts", lambda out: [part(gpu, "good", "pass")])
    assert "good: not started, the time is up" in run("--budget-s", "-1").output
    assert not (tmp_path / "gpu.json").exists()


def test_an_unknown_part_is_named(run: Callable[..., Any]) -> None:
    done = run("--parts", "dance")
    assert done.exit_code == 2
    assert "unknown part 'dance'; known: card, build, info" in " ".join(done.output.split())


def test_results_are_a_table(gpu: dict[str, Any], tmp_path: Path) -> None:
    measure = {"row": "dense / ours, step, block 64", "detail": "1/8", "goal": ">= 5.4"}
    timed = {"value": 5.5, "seconds": 2e-3, "against_seconds": 1e-3}
    untimed = {"value": None, "unavailable": "it rains", "seconds": None, "against_seconds": None}
    machine = {"gpu": "a card", "cuda": "13.0", "torch": "2.11", "python": "3.12", "commit": "c"}
    suite = {"machine": machine, "measures": [measure | timed, measure | untimed]}
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    own = {"parameters": 1000, "tokens_per_second": 10.0, "losses": [2.0, 1.5]}
    model = {"dense": own, "sparse": own | {"tokens_per_second": 15.0}}
    (tmp_path / "model.json").write_text(json.dumps(model))
    text = gpu["results"](tmp_path, {})
    assert "| dense / ours, step, block 64 | 1/8 | >= 5.4 | 5.500 | 1,000.0 | 2,000.0 |" in text
    assert "it rains" in text
    assert "Sparse trains 1.50 times as fast." in text

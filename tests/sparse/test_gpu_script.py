"""`bench/gpu.py` without a GPU: a dry run of both calls, and parts that hang, die or hold on."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpu_build
import gpu_prepare
import gpu_process
import gpu_triton
import pytest
import torch
import typer
from gpu_parts import CALLS, Places, deadlines, parts
from gpu_process import Part
from gpu_results import results
from typer.testing import CliRunner

from dnc_sparse.backends import reference

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "bench/gpu.py"
FIRST = ("environment", "build", "libraries", "first contact")
NAMES = {
    "check": (*FIRST, "first contact, timed", "ceilings", "triton", "memcheck", "device tests"),
    "measure": (*FIRST, "compile", "suite", "language model", "stk", "bsr", "gather-bmm"),
}
BUDGETS_S = {"check": 250, "measure": 410}


@pytest.mark.parametrize("call", CALLS)
def test_parts_are_in_order_and_their_seconds_sum_to_the_budget(call: Any, tmp_path: Path) -> None:
    listed = parts(call, Places(tmp_path))
    assert tuple(part.name for part in listed) == NAMES[call]
    assert max(deadlines(listed).values()) == BUDGETS_S[call]
    files = [word for part in listed for word in part.command if word.endswith(".py")]
    assert all(Path(file).exists() for file in files)
    # what a dry run says stands behind the same words
    for part, dry in zip(listed, parts(call, Places(tmp_path), dry=True), strict=True):
        assert dry.command[: len(part.command)] == part.command
        assert replace(dry, command=part.command) == part


@pytest.mark.parametrize("call", CALLS)
def test_dry_run(call: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--dry-run", "--call", call, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    endings = json.loads((tmp_path / f"{call}.json").read_text())
    assert {name: ending["status"] for name, ending in endings.items()} == dict.fromkeys(
        NAMES[call], "passed"
    )
    assert done.stdout.startswith(f"{len(NAMES[call])} parts, {BUDGETS_S[call]} s at most\n")
    for name in NAMES[call]:
        assert re.search(rf"^{name}: passed, \d+ of \d+ s$", done.stdout, re.MULTILINE)
    assert re.search(rf"^\d+ s of {BUDGETS_S[call]} s$", done.stdout, re.MULTILINE)
    # in the log, in order, but for the build, which ends when it is waited for
    log = (tmp_path / f"{call}.log").read_text()
    said = re.findall(r"^=== (.*): /", log, re.MULTILINE)
    assert [name for name in said if name != "build"] == [n for n in NAMES[call] if n != "build"]
    assert "-DDNC_CUDA=ON" in log
    verdicts = [row["verdict"] for row in endings["first contact"]["rows"]]
    assert verdicts == ["right"] * len(verdicts) != []
    assert (tmp_path / "results.md").read_text() in done.stdout
    # who lends a card may return eight files
    assert len(list(tmp_path.iterdir())) <= 8


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run bench/gpu.py with other parts and stubs of programs, in this process."""
    import gpu

    monkeypatch.setattr(gpu, "commit", lambda: "abc")
    monkeypatch.setattr(gpu.signal, "signal", lambda *arguments: None)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()

    def run(listed: list[Part], *options: str, commit: str = "abc") -> Any:
        monkeypatch.setattr(gpu, "commit", lambda: commit)
        monkeypatch.setattr(gpu, "parts", lambda call, places, dry: listed)
        app = typer.Typer()
        app.command()(gpu.main)
        return CliRunner().invoke(app, ["--out", str(tmp_path / "out"), *options])

    return run


def python(name: str, code: str, limit_s: float = 60, **others: Any) -> Part:
    return Part(name, [sys.executable, "-c", code], limit_s, **others)


def endings(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / "out/check.json").read_text())
    return state


def test_parts_end_as_they_do(session: Callable[..., Any], tmp_path: Path) -> None:
    listed = [
        python("good", "print('fine'); print('{\"a\": 1}'); print('{no row')"),
        python("bad", "raise SystemExit('it hurts')"),
        python("illegal", "import os; os.abort()"),
        Part("missing", ["no-such-program"], 5),
        python("build", "raise SystemExit('no nvcc')", limit_s=0, background=True),
        python("after it", "import sys; print(sys.argv)", after="build"),
        python("bold", "import sys; print(sys.argv)", proven=("good", "after it"), bold=("--yes",)),
        python("shy", "import sys; print(sys.argv)", proven=("good", "build"), bold=("--no",)),
        python("last", "pass"),
    ]
    done = session(listed)
    assert done.exit_code == 1
    state = endings(tmp_path)
    assert {name: ending["status"] for name, ending in state.items()} == {
        "good": "passed", "bad": "failed: exit code 1", "illegal": "failed: SIGABRT",
        "missing": "failed: no such program", "build": "failed: exit code 1",
        "after it": "passed", "bold": "passed", "shy": "passed", "last": "passed",
    }  # fmt: skip
    assert state["good"]["rows"] == [{"a": 1}]
    assert "it hurts" in done.output
    log = (tmp_path / "out/check.log").read_text()
    assert "fine" in log
    assert "['-c', '--yes']" in log
    assert "--no" not in log


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_part_that_hangs_is_killed_with_its_children(
    session: Callable[..., Any], tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    hang = (
        "import os, subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "child = subprocess.Popen(sleep)\n"
        f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}} {{child.pid}} ')\n"
        "time.sleep(60)"
    )
    listed = [
        python("beside", hang, limit_s=0, background=True),
        python("hang", hang, limit_s=2),
        python("next", "print('runs')"),
    ]
    began = time.perf_counter()
    session(listed)
    assert time.perf_counter() - began < 20
    state = {name: ending["status"] for name, ending in endings(tmp_path).items()}
    # what nothing needs ends with the call
    assert state == {"hang": "took too long", "next": "passed", "beside": "took too long"}
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 4
    assert not any(map(alive, started))


def test_nothing_runs_after_one_that_holds_the_device(
    session: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_process, "END_S", 0.3)
    program, held = tmp_path / "bin/nvidia-smi", tmp_path / "held"
    program.write_text(f"#!/bin/sh\ncat {shlex.quote(str(held))}\n")
    program.chmod(0o755)
    # one that was there before is no concern
    held.write_text("7\n")
    hold = f"open({str(held)!r}, 'a').write('4711\\n'); raise SystemExit(1)"
    done = session([python("stuck", hold), python("next", "pass")])
    assert done.exit_code == 1
    assert list(endings(tmp_path)) == ["stuck"]
    assert (
        "stopped, for nothing after this would be timed right: the device is still used by "
        "process 4711, after its end" in " ".join(done.output.split())
    )


def test_nothing_runs_after_one_that_cannot_be_killed(
    session: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_process.Running, "_kill", lambda running: False)
    done = session([python("stuck", "pass"), python("next", "pass")])
    state = {name: ending["status"] for name, ending in endings(tmp_path).items()}
    assert state == {"stuck": "cannot be killed"}
    assert "nothing after this would be timed right: stuck cannot be killed" in done.output


def test_who_ends_the_script_ends_its_parts(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    hang = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = (
        "import sys, gpu, typer\n"
        "from gpu_process import Part\n"
        f"parts = [Part('hang', [sys.executable, '-c', {hang!r}], 60)]\n"
        "gpu.parts = lambda *arguments: parts\n"
        "typer.run(gpu.main)"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'bench'}:{ROOT}"}
    command = [sys.executable, "-c", code, "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, env=environment) as script:
        deadline = time.perf_counter() + 30
        while not (pid.exists() and pid.read_text()) and time.perf_counter() < deadline:
            time.sleep(0.05)
        script.terminate()
        assert script.wait(20) == 128 + signal.SIGTERM
    assert not alive(int(pid.read_text()))
    assert (tmp_path / "out/results.md").exists()


def test_what_passed_is_not_repeated(session: Callable[..., Any], tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("")
    good = python("good", f"open({str(count)!r}, 'a').write('x')")
    bad = python("bad", "raise SystemExit(1)")
    assert session([good, bad]).exit_code == 1
    assert session([good, replace(bad, command=good.command)], "--parts", "bad").exit_code == 0
    assert session([good, bad]).exit_code == 0
    assert count.read_text() == "xx"
    # another commit is another program, and so is a tree with changes, each time
    assert session([good], commit="abd").exit_code == 0
    for _ in range(2):
        assert session([good], commit="abd+").exit_code == 0
    assert count.read_text() == "xxxxx"


def test_no_part_starts_too_late(session: Callable[..., Any], tmp_path: Path) -> None:
    done = session([python("good", "pass")], "--budget-s", "0")
    assert "good: not started, the time is up; give the command again" in done.output
    assert done.exit_code == 1
    assert not (tmp_path / "out/check.json").exists()


def test_an_unknown_part_is_named(session: Callable[..., Any]) -> None:
    done = session([python("good", "pass"), python("bad", "pass")], "--parts", "dance")
    assert done.exit_code == 2
    assert "unknown part 'dance'; known: good; bad" in " ".join(done.output.split())


def test_the_build_needs_cuda() -> None:
    configure, build, load = gpu_build.commands()
    assert {"-DDNC_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=90a-real"} <= set(configure)
    assert build[-4:-2] == ("--target", "_cuda")
    assert "import dnc_sparse._cuda" in load[-1]


def test_the_commit_travels_where_git_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_prepare, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_prepare.commit() == "unknown"
    (tmp_path / "commit").write_text("abc+\n")
    assert gpu_prepare.commit() == "abc+"


def test_libraries_of_other_sources_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_prepare, "FOLDER", tmp_path)
    monkeypatch.setattr(gpu_prepare, "CUDA_BIN", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in gpu_prepare.LIBRARIES:
        (tmp_path / name).touch()
    (tmp_path / "sources").write_text(gpu_prepare.sources_state())
    gpu_prepare.libraries()
    (tmp_path / "sources").write_text("of another day")
    text = rf"^{re.escape(str(tmp_path))} lacks libraries of these sources, and no nvcc is here"
    with pytest.raises(RuntimeError, match=text):
        gpu_prepare.libraries()


@pytest.mark.parametrize(("last", "verdict"), [(0.0, "right"), (9.0, "wrong"), (math.nan, "wrong")])
def test_wrong_results_of_triton_are_told(
    last: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(function: str, tile: object, arguments: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
        grads = reference.backward(*arguments)
        # the last of several results, after right ones
        grads[2][-1] += last
        return grads

    monkeypatch.setattr(gpu_triton.triton, "run", run)
    row = gpu_triton.Case("backward", 16, 8).run("cpu")
    assert row["verdict"] == verdict
    assert (row["block"], row["inverse_density"]) == (16, 8)


def test_results_are_tables(tmp_path: Path) -> None:
    def ended(*rows: dict[str, Any], record: Any = None) -> dict[str, Any]:
        times = {"status": "passed", "seconds": 1.5, "limit_s": 9, "commit": "abc"}
        return times | {"rows": list(rows), "record": record}

    def timed(function: str, us: float, verdict: str = "right") -> dict[str, Any]:
        case = {"case": function, "function": function, "block": 64, "inverse_density": 8}
        return case | {"us": us, "tflops": 700.5, "verdict": verdict}

    roofs = [{"roof": name, "us": 700.0} for name in ("forward", "grad_input", "grad_weight")]
    contact = [timed("forward", 130.0), timed("backward", 280.0)]
    # the two gradients apart are faster than at once
    triton = [timed("forward", 150.0), timed("backward", 400.0)]
    triton += [timed("grad_input", 160.0), timed("grad_weight", 190.0)]
    hang = {"case": "forward, block 128", "verdict": "hangs", "detail": "no answer in 12 s"}
    check = {
        "first contact, timed": ended(*contact, hang, hang | {"case": "a second"}),
        "ceilings": ended(*roofs),
        "triton": ended(*triton, timed("forward", 90.0, "wrong") | {"block": 32}),
    }
    measure = {"row": "dense / ours, step, block 64", "detail": "1/8", "goal": ">= 5.4"}
    outcome = {"value": 5.5, "seconds": 2e-3, "against_seconds": 1e-3}
    lost = {"value": None, "unavailable": "it rains", "seconds": None, "against_seconds": None}
    suite = {"measures": [measure | outcome, measure | {"detail": "1/4"} | lost]}
    model = {"parameters": 1000, "tokens_per_second": 10.0, "losses": [2.0, 1.5]}
    sparse = model | {"tokens_per_second": 18.0, "validation_loss": 1.25}
    models = {"variants": {"dense": model, "sparse": sparse}}
    (tmp_path / "check.json").write_text(json.dumps(check))
    (tmp_path / "measure.json").write_text(
        json.dumps({"suite": ended(record=suite), "language model": ended(record=models)})
    )
    text = results(tmp_path)
    steps = "| 64 | 1/8 | 2,100 | 410 | 500 | 5.122 | 1,000 | 5.5 | >= 5.4 |"
    assert steps in text
    # it stands first, and what is wrong was not timed
    assert text.index(steps) < text.index("## Parts")
    assert "| 32 | 1/8 | 2,100 |  |  |  |  |  |  |" in text
    assert "* first contact, timed: 2 of 4 right" in text
    assert "  * forward, block 128 and 1 more: hangs no answer in 12 s" in text
    assert "| dense / ours, step, block 64 | 1/8 | >= 5.4 | 5.5 | 1,000 | 2,000 |" in text
    assert "it rains" in text
    assert "| sparse | 1,000 | 18 | 1.8 | 1.5 | 1.25 |" in text

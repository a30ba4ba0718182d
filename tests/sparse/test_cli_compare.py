"""`dnc-sparse compare`: tables, records and figures of several networks."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sparse.small_runs import code, here
from sparse.test_processes import children, wait_until

from dnc_sparse import compare, compare_report, processes
from dnc_sparse.cli import compare as compare_command
from dnc_sparse.experiment import Version, narrow
from dnc_sparse.progress import RunBars

pytestmark = pytest.mark.usefixtures("wide")


def test_compare_writes_table_record_and_figure(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    command = ["compare", "--data", data, "--layers", "16,12,4", "--density", "0.5"]
    out = tmp_path / "out"
    command += ["--epochs", "1", "--seeds", "1", "--jobs", "2", "--out", str(out)]
    assert code(*command) == 0
    shown = capsys.readouterr().out
    assert "[2/2]" in shown
    assert re.search(r"auto density 0.5 +0.5 +120 +[\d.]+ +- +-", shown)
    names = ["comparison.json", "comparison.png", "results.jsonl"]
    assert sorted(path.name for path in out.iterdir()) == names
    record = json.loads((out / "comparison.json").read_text())
    assert [row["edges"] for row in record["versions"]] == [240, 120]
    assert record["experiment"]["layers"] == [16, 12, 4]
    # nothing is done twice
    assert code(*command) == 0
    # wherever lines are broken
    shown = " ".join(capsys.readouterr().out.split())
    assert "holds 2 finished runs" in shown
    assert "[2/2]" not in shown
    assert "the runs come from" not in shown
    # one of them is from elsewhere
    ledger = out / "results.jsonl"
    ledger.write_text(ledger.read_text().replace('"processor": "', '"processor": "old ', 1))
    assert code(*command) == 0
    assert "the runs come from 2 machines or commits; comparison.json" in capsys.readouterr().out


def test_compare_into_a_file(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    command = ["compare", "--data", data, "--layers", "16,12,4", "--out", str(out)]
    assert code(*command) == 2
    message = r"error: cannot use \S*out as a folder: it is a file; name another folder\n"
    assert re.fullmatch(message, capsys.readouterr().err)


def test_versions_of_a_study() -> None:
    shared = Version((800, 100, 10))
    chosen = compare_command.versions(
        shared, None, "50,10;20,10", ["clash_free", "random"], "1e-4,8e-5,2e-5", dense=True
    )
    assert [(v.family, v.fan_out, v.l2) for v in chosen] == [
        ("auto", None, 1e-4),
        ("clash_free", (50, 10), 8e-5),
        ("clash_free", (20, 10), 2e-5),
        ("random", (50, 10), 8e-5),
        ("random", (20, 10), 2e-5),
    ]
    one = compare_command.versions(shared, "0.5,0.25", None, ["auto"], "1e-5", dense=False)
    assert [(v.density, v.l2) for v in one] == [(0.5, 1e-5), (0.25, 1e-5)]


def test_versions_refused() -> None:
    shared = Version((8, 4))
    with pytest.raises(
        ValueError, match=r"^--l2 has 2 values for 3 networks; give one, or 3, the d"
    ):
        compare_command.versions(shared, "0.5,0.25", None, ["auto"], "0,1", dense=True)
    with pytest.raises(
        ValueError, match=r"^nothing to compare; give --density, --fan-out, or leav"
    ):
        compare_command.versions(shared, None, None, ["auto"], "0", dense=False)


# --- a folder for each experiment


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("--epochs", "2"), "epochs 1, now 2"),
        (("--layers", "16,8,4"), r"layers \[16, 12, 4\], now \[16, 8, 4\]"),
        (("--recipe", "morse"), "recipe 'paper', now 'morse'"),
    ],
)
def test_another_experiment_needs_another_folder(
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, ...],
    text: str,
) -> None:
    monkeypatch.setattr(processes, "results", here)
    command = ["compare", "--data", data, "--layers", "16,12,4", "--epochs", "1", "--seeds", "1"]
    command += ["--threads", "1", "--out", str(tmp_path)]
    assert code(*command) == 0
    before = (tmp_path / "comparison.json").read_bytes()
    capsys.readouterr()
    assert code(*command, *change) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(
        rf"error: \S*comparison.json is of another experiment \({text}\); name another folder "
        r"with --out\n",
        error,
    )
    assert (tmp_path / "comparison.json").read_bytes() == before
    # more versions and seeds are the same experiment
    assert code(*command, "--density", "0.5", "--seeds", "2") == 0


def test_a_picture_without_matplotlib_is_not_an_old_one(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "results", here)
    monkeypatch.setattr(compare_command, "find_spec", lambda name: None)
    (tmp_path / "comparison.png").write_bytes(b"old")
    command = ["compare", "--data", data, "--layers", "16,12,4", "--epochs", "1", "--seeds", "1"]
    assert code(*command, "--threads", "1", "--out", str(tmp_path)) == 0
    assert "no figure: it needs matplotlib, pip install 'dnc-sparse[plot]'" in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "comparison.png").exists()


# --- progress


def test_quiet_shows_the_table_alone(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "results", here)
    command = ["compare", "--data", data, "--layers", "16,12,4", "--epochs", "1", "--seeds", "1"]
    assert code(*command, "--threads", "1", "--quiet", "--out", str(tmp_path)) == 0
    shown = capsys.readouterr()
    assert "16-12-4, epochs 1, seeds 1" in shown.out
    assert "[1/1]" not in shown.out
    assert shown.err == ""


def test_bars_of_runs_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that were done before count as done and not as speed."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with RunBars(6, 10, enabled=True) as bars:
        bars.epoch("dense, seed 1", 1, 3)
        bars.epoch("sparse [plot], seed 1", 4, 3)
        shown = {task.description: (task.completed, task.total) for task in bars._bar.tasks}
        assert shown == {
            "3 of 6 runs done": (35, 60),
            "dense, seed 1  epoch 1/10": (1, 10),
            "sparse [plot], seed 1  epoch 4/10": (4, 10),
        }
        bars.ended("sparse [plot], seed 1", 4)
        shown = {task.description: task.completed for task in bars._bar.tasks}
        assert shown == {"4 of 6 runs done": 41, "dense, seed 1  epoch 1/10": 1}


def test_no_bars_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with RunBars(2, 10, enabled=True) as bars:
        bars.epoch("dense, seed 0", 1, 0)
        bars.ended("dense, seed 0", 1)
    assert capsys.readouterr() == ("", "")


# --- Ctrl-C


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_says_what_is_kept_and_leaves_nothing_behind(
    data: str, tmp_path: Path, jobs: int
) -> None:
    """As a terminal sends it, to all processes, while runs of many epochs train."""
    out = tmp_path / "out"
    command = ["compare", "--data", data, "--layers", "16,12,4", "--seeds", "3", "--threads", "1"]
    command += ["--jobs", str(jobs), "--epochs", "1000000", "--out", str(out)]
    program = f"from dnc_sparse.cli import main\nif __name__ == '__main__': main({command!r})"
    script = tmp_path / "script.py"
    script.write_text(program)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(children(parent.pid)) == jobs + 1, 60)
        began = time.monotonic()
        os.killpg(parent.pid, signal.SIGINT)
        _, error = parent.communicate(timeout=60)
    except BaseException:
        os.killpg(parent.pid, signal.SIGKILL)
        raise
    # a million epochs take hours
    assert time.monotonic() - began < 15
    assert parent.returncode == 130
    assert (
        error == f"stopped: 0 of 3 runs are kept in {out}/results.jsonl; the same command goes on\n"
    )
    # the tracker of resources ends a moment after its parent
    wait_until(lambda: children(parent.pid) == [])


# --- narrower dense networks


def test_narrow_has_as_many_weights() -> None:
    shared = Version((784, 1024, 512, 10), block=1)
    chosen = compare_command.versions(
        shared, "0.25,0.125", None, ["regular", "random"], "1e-4,2e-4,3e-4", dense=True
    )
    rows = compare_command.with_narrow(chosen)
    # both families have as many weights, so one narrow network each
    assert [row.family if not row.is_dense else row.name for row in rows] == [
        "dense",
        "regular",
        "dense, narrow 784-347-173-10",
        "regular",
        "dense, narrow 784-189-94-10",
        "random",
        "random",
    ]
    assert [row.l2 for row in rows] == [1e-4, 2e-4, 2e-4, 3e-4, 3e-4, 2e-4, 3e-4]


@pytest.mark.parametrize("sizes", [(64, 96, 64), (100, 30, 50, 20, 7), (20, 5, 4)])
@pytest.mark.parametrize("density", [0.9, 0.5, 0.3])
def test_narrow_is_the_largest_that_is_not_larger(sizes: tuple[int, ...], density: float) -> None:
    version = Version(sizes, density, family="random")
    most = version.build(0).n_parameters
    found = narrow(version)
    assert found.build(0).n_parameters <= most
    n_in, *hidden, n_out = found.sizes
    # no hidden layer can grow alone at this factor or any just above it
    scale = min((width + 1) / before for width, before in zip(hidden, sizes[1:-1], strict=True))
    wider = [max(1, int(scale * before + 1e-9)) for before in sizes[1:-1]]
    assert Version((n_in, *wider, n_out)).build(0).n_parameters > most


def test_narrow_is_the_run_of_a_dense_network_of_its_sizes() -> None:
    found = narrow(Version((64, 96, 64), 0.5, l2=1e-4))
    plain = Version(found.sizes, l2=1e-4)
    assert compare.run_key({}, found, 0, 1) == compare.run_key({}, plain, 0, 1)
    assert pickle.loads(pickle.dumps(found)).name == f"dense, narrow 64-{found.sizes[1]}-64"


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (
            Version((64, 10), 0.5),
            r"^network 64-10 has no hidden layer to be narrower; leave out --na",
        ),
        (
            Version((1000, 4, 2), 0.1, family="random"),
            r"^random density 0.1 has 408 parameters, but the narrowest dense network, 1000-1-2, "
            r"has 1005; leave out --narrow, or this version$",
        ),
    ],
)
def test_narrow_refused(version: Version, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        narrow(version)


def test_narrow_in_table_record_and_figure(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(processes, "results", here)
    command = ["compare", "--data", data, "--layers", "16,32,4", "--density", "0.5", "--narrow"]
    command += ["--epochs", "1", "--seeds", "1", "--threads", "1", "--out", str(tmp_path)]
    assert code(*command) == 0
    assert re.search(r"dense, narrow 16-16-4 +0.5 +320 ", capsys.readouterr().out)
    rows = json.loads((tmp_path / "comparison.json").read_text())["versions"]
    assert [(row["family"], row["label"], row["edges"]) for row in rows] == [
        ("dense", "dense", 640),
        ("auto", "clash-free", 320),
        ("dense, narrow", "dense, narrow", 320),
    ]


def test_labels_name_the_families_that_are_drawn() -> None:
    rows = [
        compare_report.Summary(version="", family=family, label=label, **FIGURES)
        for family, label in (
            ("dense", "dense"),
            ("auto", "clash-free"),
            ("clash_free", "clash-free"),
            ("random", "random"),
        )
    ]
    assert list(compare_report._families(rows)) == [
        "clash-free (auto)",
        "clash-free (clash_free)",
        "random",
    ]
    assert list(compare_report._families(rows[:2])) == ["clash-free"]
    # a fan-out of 2.5 to the outputs is not clash-free
    version = Version((784, 1024, 10), 0.25, block=1)
    assert compare_report._drawn(version) == "clash-free and regular"


FIGURES = {
    "runs": 1,
    "density": 0.5,
    "edges": 4,
    "parameters": 5,
    "test_accuracy": 0.5,
    "test_accuracy_half_width": None,
    "seconds_per_epoch": None,
    "peak_mib": None,
}

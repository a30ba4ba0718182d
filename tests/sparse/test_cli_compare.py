"""`dnc-sparse compare`, and the demo: tables, records and figures of several networks."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from sparse.small_runs import code, here

from dnc_sparse import compare, processes
from dnc_sparse.cli import compare as compare_command
from dnc_sparse.experiment import Version

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


def test_demo_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's own settings, its runs cut short."""
    asked: list[tuple[str, int]] = []

    def short(task: object, version: Version, seed: int, *_: object, **__: object) -> None:
        asked.append((version.name, seed))
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "results", here)
    monkeypatch.setattr(compare, "run", short)
    assert code("demo", "--out", str(tmp_path)) == 130
    assert asked[0] == ("dense", 0)


def test_demo_to_its_end_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")

    def refuse(*_: object) -> None:
        raise AssertionError("the demo reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    # in this process, where the network is refused
    monkeypatch.setattr(processes, "results", here)
    small = replace(compare_command.DEMO_TASK, options={"samples_per_class": 14}, epochs=1)
    monkeypatch.setattr(compare_command, "DEMO_TASK", small)
    monkeypatch.setattr(compare_command, "DEMO_LAYERS", (64, 32, 32, 64))
    monkeypatch.setattr(compare_command, "DEMO_FAN_OUTS", "32,16,64;32,8,64")
    monkeypatch.setattr(compare_command, "DEMO_SEEDS", 2)
    assert code("demo", "--out", str(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert "[6/6]" in shown
    figures = r" +{} +{} +[\d.]+ ± [\d.]+ +[\d.]+ \([\d.]+\) +-?[\d.]+"
    assert re.search("dense" + figures.format(1, 5120), shown)
    assert re.search(r"fan_out \(32,16,64\)" + figures.format("0.9", 4608), shown)
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert [row["edges"] for row in record["versions"]] == [5120, 4608, 4352]
    assert [run["seed"] for run in record["runs"]] == [0, 0, 0, 1, 1, 1]
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


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

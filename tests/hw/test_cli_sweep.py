"""`dnc-hw sweep`: grids, files and figures; killed and interrupted sweeps go on."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hw.small_digits import write_digits
from hw.test_cli_hw import code

from dnc_hw import sweep
from dnc_hw.description import describe, nearest_fan_out
from dnc_hw.figures import pareto_front, pareto_points
from dnc_hw.sweep import grid

LANES = ("--lanes", "32,8", "--lanes", "16,4")
FORMATS = ("--format", "2,7", "--format", "3,8", "--format", "2,5")


@pytest.fixture
def common(tmp_path: Path) -> tuple[str, ...]:
    data = write_digits(tmp_path / "digits.npz")
    return ("sweep", "small", "--data", str(data), "--out", str(tmp_path / "out"), "--own-values")


def kept(folder: Path) -> dict[str, int]:
    """Return the results there are, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("results/*.json")}


def test_a_grid_with_files_and_figures(
    common: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    density = ("--density", "0.125,0.25,0.5", "--lanes", "24,8")
    assert code(*common, *LANES, *FORMATS, *density, "--hazards", "stall,forward") == 0
    shown = capsys.readouterr().out
    out = tmp_path / "out"
    results = json.loads((out / "results.json").read_text())
    assert len(results) == 3 * 3 * 3 * 2
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert [row["lanes"] for row in rows] == [" ".join(map(str, r["lanes"])) for r in results]
    illegal = [each for each in results if "illegal" in each]
    assert {tuple(each["lanes"]) for each in illegal} == {(24, 8)}
    assert "not legal (18): junction 1: 64 left neurons cannot be spread over 24 lanes" in shown
    first = next(each for each in results if "illegal" not in each)
    assert (first["cycle_clocks"], first["dsp"], first["width_bits"]) == (6, 48 + 8, 10)
    for name in ("pareto.png", "accuracy-bits.png", "accuracy-density.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_a_killed_sweep_goes_on(
    common: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*common, *LANES, *FORMATS, "--seeds", "3"]
    program = f"from dnc_hw.cli import main; main({arguments!r})"
    paths = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    out = tmp_path / "out"
    end = time.monotonic() + 120
    while not kept(out) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
    process.wait()
    before = kept(out)
    assert before
    assert code(*arguments) == 0
    shown = capsys.readouterr().out
    assert f"{len(before)} of 18 results were there" in shown
    after = kept(out)
    assert len(after) == 18
    assert {name: after[name] for name in before} == before


def test_processes_give_the_same_results(common: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    assert code(*common, *LANES, "--seeds", "2") == 0
    one = figures_of(tmp_path / "out")
    for path in (tmp_path / "out" / "results").iterdir():
        path.unlink()
    assert code(*common, *LANES, "--seeds", "2", "--jobs", "2") == 0
    assert figures_of(tmp_path / "out") == one


def figures_of(out: Path) -> list[dict[str, Any]]:
    results = json.loads((out / "results.json").read_text())
    return [{k: v for k, v in each.items() if k != "simulated_in_s"} for each in results]


def test_ctrl_c_keeps_what_is_there(
    common: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = sweep.write_json

    def write_two(path: Path, record: Any) -> None:
        if len(kept(tmp_path / "out")) == 2:
            raise KeyboardInterrupt
        write(path, record)

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "write_json", write_two)
        assert code(*common, *FORMATS) == 130
    text = "stopped with 2 of 3 results kept; the same command goes on with the rest\n"
    assert capsys.readouterr().err.endswith(text)
    assert code(*common, *FORMATS) == 0
    assert "2 of 3 results were there" in capsys.readouterr().out


@pytest.mark.parametrize("other", [("--epochs", "2"), ("--samples", "100")])
def test_another_study_needs_another_folder(
    common: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    other: tuple[str, ...],
) -> None:
    assert code(*common) == 0
    table = (tmp_path / "out" / "results.csv").read_text()
    capsys.readouterr()
    assert code(*common, *other) == 2
    error = capsys.readouterr().err
    assert re.match(r"error: \S*out holds results of another study \(other data, samples", error)
    assert error.endswith("name another folder\n")
    assert (tmp_path / "out" / "results.csv").read_text() == table


def test_a_smaller_sweep_keeps_the_table_of_a_larger_one(
    common: tuple[str, ...], tmp_path: Path
) -> None:
    assert code(*common, *LANES, *FORMATS) == 0
    out = tmp_path / "out"
    before = (out / "results.json").read_text()
    # drawn by an older release, of machines that are no longer there
    (out / "accuracy-density.png").write_bytes(b"old")
    assert code(*common, *FORMATS[:2], *LANES[:2]) == 0
    results = json.loads((out / "results.json").read_text())
    assert len(results) == 6
    assert sorted(map(repr, results)) == sorted(map(repr, json.loads(before)))
    assert (results[0]["lanes"], results[0]["number"]) == ([32, 8], [2, 7])
    assert (out / "pareto.png").exists()
    assert not (out / "accuracy-density.png").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--kind 1,5", "unknown kind '5'; choose published, 1, 2, 3"),
        ("--hazards ignore", "unknown hazards 'ignore'; choose reject, stall, forward, emulate"),
        ("--density 0.5 --fan-out 2,2", "fan_out and density both choose the edges; give one"),
        ("--density 1.5", "density must be above 0 and at most 1, got 1.5"),
        ("--samples 401", "401 samples of a training split of 400; take at most that"),
    ],
)
def test_bad_input(
    arguments: str, text: str, common: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert code(*common, *arguments.split()) == 2
    assert re.search(f"^error: {re.escape(text)}", capsys.readouterr().err)


def test_a_list_of_machines(common: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "machines.toml"
    path.write_text(
        "[[machine]]\nlanes = [16, 4]\nformat = [3, 8]\n"
        "[[machine]]\npipeline = 2\nhazards = 'stall'\nkind = '2'\n"
        "[[machine]]\ndensity = 0.5\n"
    )
    assert code(*common, "--list", str(path), "--seeds", "2") == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results) == 6
    first, second, third = results[::2]
    assert (first["lanes"], first["width_bits"]) == ([16, 4], 12)
    assert (second["pipeline_clocks"], second["hazards"], second["kind"]) == (2, "stall", "2")
    layers = describe("small")["layers"]
    assert third["fan_out"] == list(nearest_fan_out(layers, 0.5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lanes = 3", "{path} lists no machine; begin each with a line [[machine]]"),
        ("[[machine]]\nlane = 3", "machine 1 of {path}: unknown key 'lane'; known: lanes, fan_out"),
        ("[[machine]]\nlanes = 3", "machine 1 of {path}: lanes cannot be 3: "),
        ("[[machine]]\nformat = [3]", "machine 1 of {path}: format cannot be [3]: "),
        ("[[machine]]\nkind = 'odd'", "unknown kind 'odd'; choose published, 1, 2, 3"),
        ("[[machine", "{path}: "),
        (None, "no list of machines {path}; name a .toml that exists"),
    ],
)
def test_bad_lists(
    text: str | None,
    message: str,
    common: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "machines.toml"
    if text is not None:
        path.write_text(text)
    assert code(*common, "--list", str(path)) != 0
    expected = re.escape(message.format(path=path))
    assert re.search(f"^error: {expected}", capsys.readouterr().err)


def test_a_list_and_a_grid_are_two_things(
    common: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code(*common, *LANES, "--list", str(tmp_path / "machines.toml")) == 2
    message = "error: --list names its machines one by one; leave out the options of a grid"
    assert message in capsys.readouterr().err


def test_grid_of_one_machine_and_of_values_twice() -> None:
    base = describe("small")
    (own,) = grid(base)
    assert (own.lanes, own.fan_out, own.number, own.kind) == ((32, 8), (2, 2), (2, 7), "published")
    assert len(grid(base, lanes=[(32, 8), (32, 8)], density=[0.12, 0.13])) == 1


def test_density_becomes_the_nearest_fan_out() -> None:
    assert nearest_fan_out((1024, 64, 32), 0.0757) == (5, 2)
    assert nearest_fan_out((1024, 64, 32), 1.0) == (64, 32)


def test_pareto_points_are_means_over_seeds() -> None:
    same = {**asdict(grid(describe("small"))[0]), "input_us": 1.0}
    results = [
        {**same, "kind": kind, "seed": seed, "test_accuracy": accuracy}
        for kind, seed, accuracy in (("1", 0, 0.9), ("1", 1, 0.8), ("2", 0, 0.5), ("2", 1, 0.7))
    ]
    points = [(shade, each["kind"]) for shade, each in pareto_points(results)]
    assert points == [(pytest.approx(60), "2"), (pytest.approx(85), "1")]


def test_a_sweep_without_matplotlib(
    common: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert code(*common, *LANES) == 0
    shown = capsys.readouterr().out
    assert "no pictures: drawing needs matplotlib: pip install 'dnc-sparse[plot]'\n" in shown
    assert "written: results.csv, results.json in " in shown
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 2
    assert not list((tmp_path / "out").glob("*.png"))


def test_pareto_front() -> None:
    points = [(1.0, 5.0), (2.0, 3.0), (2.0, 4.0), (3.0, 3.0), (4.0, 1.0)]
    assert pareto_front(points) == [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0)]

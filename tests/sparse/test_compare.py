"""Comparisons: fresh processes, a ledger that is never done twice, tables and figures."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sparse.small_data import write_npz
from sparse.small_runs import fill_disk, here

from dnc_sparse import compare as compare_module
from dnc_sparse import compare_report, machine, processes
from dnc_sparse.compare import Result, compare, run, run_key
from dnc_sparse.experiment import Task, Version, default_recipe
from dnc_sparse.ledger import Ledger

DENSE = Version((12, 16, 4))
SPARSE = Version((12, 16, 4), fan_out=(4, 4), family="regular")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(str(write_npz(tmp_path / "clusters.npz")), "paper", epochs=2, batch_size=50)


def result(task: Task, version: Version, seed: int, **changes: object) -> Result:
    """A made-up result of a run that was never done."""
    figures = {
        "key": run_key(task.identity(), version, seed, 1),
        "version": version.name,
        "seed": seed,
        "test_accuracy": 0.9 + 0.01 * seed,
        "train_accuracy": 0.95,
        "loss": 0.1,
        "density": 1.0 if version.is_dense else 0.375,
        "edges": 256 if version.is_dense else 96,
        "parameters": 276 if version.is_dense else 116,
        "epochs": 2,
        "threads": 1,
        "seconds_per_epoch": 0.4 if version.is_dense else 0.2,
        "peak_mib": 10.0 if version.is_dense else 4.0,
        "machine": {"commit": "abc1234", "threads": 1},
    }
    return Result(**{**figures, **changes})  # type: ignore[arg-type]


# --- versions and tasks


def test_version_names() -> None:
    assert DENSE.name == "dense"
    assert SPARSE.name == "regular fan_out (4,4)"
    assert Version((8, 8), 0.25, block=(4, 2)).name == "auto block 4x2 density 0.25"
    assert Version((8, 8), 0.25, block=(1, 1)).name == "auto density 0.25"
    assert Version((8, 8), 0.25).name == "auto density 0.25"
    assert Version((8, 8), 0.25, options={"banks": 4}).name == "auto density 0.25"


def test_version_refuses_an_unknown_block() -> None:
    for block in ("8", "big"):
        with pytest.raises(ValueError, match=rf"^unknown block '{block}'; give 'auto', one "):
            Version((4, 4), 0.5, block=block)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "choice", [{}, {"fan_out": (4, 4)}, {"density": 0.5, "options": {"banks": 4}}]
)
def test_versions_without_a_choice_of_blocks_are_those_of_earlier_ledgers(
    choice: dict[str, Any],
) -> None:
    version = Version((12, 16, 4), **choice)
    single = replace(version, block=(1, 1))
    assert version.record() == single.record()
    assert version.record()["block"] == (1, 1)
    assert run_key({}, version, 0, 1) == run_key({}, single, 0, 1)
    chosen = Version((12, 16, 4), 0.5)
    assert chosen.record()["block"] == "auto"
    assert run_key({}, chosen, 0, 1) != run_key({}, replace(chosen, block=(1, 1)), 0, 1)


def test_version_takes_one_degree() -> None:
    message = r"^give density or fan_out, not both; got 0.5 and \(1,\)$"
    with pytest.raises(ValueError, match=message):
        Version((4, 4), 0.5, fan_out=(1,))


def test_version_builds_what_it_says() -> None:
    assert DENSE.build(0).n_edges == 12 * 16 + 16 * 4
    assert SPARSE.build(0).n_edges == 12 * 4 + 16 * 4


def test_task_pads_the_data(task: Task) -> None:
    data = task.load(Version((20, 4)))
    assert data.n_features == 20
    assert not data.train.x[:, 12:].any()


def test_recipe_follows_the_data() -> None:
    assert default_recipe("morse-2.1") == "morse"
    assert default_recipe("mnist") == "paper"


def key(task: Task, version: Version = DENSE, seed: int = 0, threads: int | None = 1) -> str:
    return run_key(task.identity(), version, seed, threads)


def test_key_depends_on_settings_not_on_places(task: Task, tmp_path: Path) -> None:
    moved = tmp_path / "moved.npz"
    shutil.copy(task.data, moved)
    assert key(replace(task, data_dir="/elsewhere", data=str(moved))) == key(task)
    others = [
        key(replace(task, epochs=3)),
        key(task, threads=2),
        key(task, threads=None),
        key(task, seed=1),
        key(task, SPARSE),
        key(task, replace(DENSE, l2=1e-5)),
    ]
    assert len({key(task), *others}) == 7


def test_key_changes_with_the_data_and_the_release(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {key(task)}
    with np.load(task.data) as arrays:
        changed = {**arrays, "x_train": arrays["x_train"] + 1}
    np.savez(task.data, **changed)
    keys.add(key(task))
    monkeypatch.setattr(compare_module, "__version__", "99.0")
    keys.add(key(task))
    assert len(keys) == 3


def test_key_of_data_that_are_not_there() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"^nowhere.npz does not exist; give the path of an .npz file$"
    ):
        Task("nowhere.npz", "paper").identity()


# --- runs


def test_runs_in_fresh_processes_and_only_once(task: Task, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "results.jsonl", Result)
    seen: list[tuple[str, int, int]] = []

    def report(result: Result, done: int, total: int) -> None:
        seen.append((result.version, done, total))

    results = compare(task, [DENSE, SPARSE], [0], ledger, threads=1, report=report)
    assert seen == [("dense", 1, 2), ("regular fan_out (4,4)", 2, 2)]
    assert [r.edges for r in results] == [256, 112]
    assert all(r.seconds_per_epoch and r.peak_mib is not None for r in results)
    assert all({"torch", "processor", "commit"} <= r.machine.keys() for r in results)
    # the same run in this process: seeds alone decide
    again = run(task, SPARSE, 0, 1, measure=False)
    assert (again.test_accuracy, again.loss) == (results[1].test_accuracy, results[1].loss)
    assert again.seconds_per_epoch is None
    # nothing is left to do for a ledger read anew
    seen.clear()
    reread = Ledger(tmp_path / "results.jsonl", Result)
    assert compare(task, [DENSE, SPARSE], [0], reread, threads=1, report=report) == results
    assert not seen


def test_parallel_runs_are_not_measured(task: Task, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "results.jsonl", Result)
    results = compare(task, [SPARSE], [0, 1], ledger, threads=4, jobs=2)
    assert [r.seed for r in results] == [0, 1]
    assert all(r.seconds_per_epoch is None and r.peak_mib is None for r in results)
    assert all(r.threads == 1 for r in results)


def test_errors_of_a_run_come_through(task: Task, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "results.jsonl", Result)
    with pytest.raises(ValueError, match=r"^the model maps one sample to \[1, 3\], but .* has 4"):
        compare(task, [Version((12, 3))], [0], ledger, threads=1)
    with pytest.raises(ValueError, match=r"^unknown pattern family 'lace'"):
        compare(task, [replace(SPARSE, family="lace")], [0], ledger, threads=1)


def _die(*_: object, **__: object) -> Result:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.parametrize(("jobs", "advice"), [(1, ""), (2, "; --jobs 1 needs the least memory")])
def test_a_run_that_dies_is_reported(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, advice: str
) -> None:
    monkeypatch.setattr(compare_module, "run", _die)
    message = (
        rf"^the process of a run was ended by SIGKILL, perhaps for want of memory{advice}; "
        r"finished runs are kept in \S*results.jsonl, the same command goes on$"
    )
    with pytest.raises(RuntimeError, match=message):
        compare(
            task, [DENSE], [0], Ledger(tmp_path / "results.jsonl", Result), threads=1, jobs=jobs
        )


def test_data_that_change_meanwhile(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit_first(task: Task, version: Version, seed: int, *_: object, **__: object) -> Result:
        Path(task.data).write_bytes(b"other data")
        return result(task, version, seed)

    monkeypatch.setattr(processes, "results", here)
    monkeypatch.setattr(compare_module, "run", edit_first)
    message = r"^\S*clusters.npz changed while runs read it; run the same command again$"
    with pytest.raises(RuntimeError, match=message):
        compare(task, [DENSE], [0], Ledger(tmp_path / "results.jsonl", Result), threads=1)


def test_full_disk_keeps_the_ledger(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "results.jsonl", Result)
    ledger.add(result(task, DENSE, 0))
    fill_disk(monkeypatch, "results.jsonl", "a")
    monkeypatch.setattr(processes, "results", here)
    monkeypatch.setattr(compare_module, "run", lambda *run, **_: result(*run[:3]))
    message = r"^cannot append to \S*results.jsonl: No space left on device; make room or permiss"
    with pytest.raises(RuntimeError, match=message):
        compare(task, [DENSE], [0, 1], ledger, threads=1)
    monkeypatch.undo()
    assert list(Ledger(ledger.path, Result).results.values()) == [result(task, DENSE, 0)]


# --- ledger


def test_ledger_drops_a_line_cut_short(task: Task, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    ledger = Ledger(path, Result)
    ledger.add(result(task, DENSE, 0))
    whole = path.read_text()
    path.write_text(whole + whole[:40])
    again = Ledger(path, Result)
    assert list(again.results.values()) == [result(task, DENSE, 0)]
    assert path.read_text() == whole
    again.add(result(task, DENSE, 1))
    assert len(Ledger(path, Result).results) == 2


def test_ledger_refuses_other_lines(task: Task, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(asdict(result(task, DENSE, 0))) + "\n{}\n")
    message = r"^\S*results.jsonl:2 is not a result \(.*\); delete that line, or give another fold"
    with pytest.raises(ValueError, match=message):
        Ledger(path, Result)


# --- memory


def test_peak_memory_sees_what_is_allocated_and_freed() -> None:
    memory = machine.PeakMemory()
    before = memory.mib()
    np.ones(8 * 2**20, dtype=np.float64)
    assert 60 < memory.mib() - before < 80
    if machine._reset_peak():
        memory.forget()
        assert memory.mib() < 60


# --- report


def rows(task: Task, *, measured: bool = True) -> list[compare_report.Summary]:
    changes = {} if measured else {"seconds_per_epoch": None, "peak_mib": None}
    pairs = [(version, seed) for seed in (0, 1) for version in (DENSE, SPARSE)]
    results = [result(task, version, seed, **changes) for version, seed in pairs]
    return compare_report.summarise([DENSE, SPARSE], results)


def test_summary_is_over_seeds_and_against_dense(task: Task) -> None:
    dense, sparse = rows(task)
    assert (dense.runs, dense.time_ratio, dense.memory_ratio) == (2, 1.0, 1.0)
    assert sparse.test_accuracy == pytest.approx(0.905)
    # t(0.975, 1) = 12.706, standard error 0.005
    assert sparse.test_accuracy_half_width == pytest.approx(0.06353, rel=1e-3)
    assert (sparse.time_ratio, sparse.memory_ratio) == (0.5, 0.4)
    assert sparse.parameter_ratio == pytest.approx(116 / 276)


def test_summary_without_dense_has_no_ratios(task: Task) -> None:
    (row,) = compare_report.summarise([SPARSE], [result(task, SPARSE, 0)])
    assert (row.time_ratio, row.memory_ratio, row.parameter_ratio) == (None, None, None)


def test_table_shows_figures_and_ratios(task: Task) -> None:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(compare_report.table(rows(task), "clusters"))
    console.print(compare_report.table(rows(task, measured=False), "clusters"))
    lines = [line.split() for line in console.export_text().splitlines() if "regular" in line]
    figures = ["0.375", "96", "90.50", "±", "6.35"]
    assert lines[0][3:] == [*figures, "0.200", "(0.50)", "4.0", "(0.40)"]
    assert lines[1][3:] == [*figures, "-", "-"]


@pytest.mark.parametrize("measured", [True, False])
def test_figure_is_drawn(task: Task, tmp_path: Path, measured: bool) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "figure.png"
    compare_report.draw(rows(task, measured=measured), "clusters", path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_record_is_json_and_says_where_each_run_is_from(task: Task) -> None:
    results = [result(task, DENSE, 0), result(task, SPARSE, 0, machine={"commit": "def5678"})]
    record = compare_report.record(task, DENSE.sizes, rows(task), results)
    runs = json.loads(json.dumps(record))["runs"]
    assert runs[0]["edges"] == 256
    assert [run["machine"]["commit"] for run in runs] == ["abc1234", "def5678"]
    assert compare_report.origins(results) == 2
    assert compare_report.origins(results[:1] * 2) == 1

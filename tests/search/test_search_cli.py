"""The commands `dnc-search run`, `worker`, `status` on a small search that really trains."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from search.found import SEARCH
from search.small_search import call, command, program

from dnc_search.assembly import weights_of
from dnc_search.cli.run import space_of
from dnc_search.cli.task import tell_task
from dnc_search.ledger import Ledger, sqlite_url
from dnc_search.spaces import SparseMlp, space_record
from dnc_sparse.data import DataSet, Split


def test_a_search_runs_to_its_end_and_keeps_weights(finished: Path) -> None:
    with Ledger(sqlite_url(finished), "first", read_only=True) as ledger:
        assert ledger.stages()[0] == "baseline"
        finals = ledger.records("final")
        assert finals
        assert all("test_error" in record.measures for record in finals)
        assert all("test_error" not in r.measures for r in ledger.records("training"))
    assert all(weights_of(finished, record.slot).is_file() for record in finals)


def test_status_shows_it(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("status", "--out", str(finished), "--once") == 0
    shown = capsys.readouterr().out
    assert "slots done: the search is finished" in shown
    for words in ("baseline", "architecture", "training", "final", "best so far", "test error"):
        assert words in shown


def test_a_worker_finds_nothing_left_to_do(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("worker", "--out", str(finished)) == 0
    assert "nothing is left to do in first" in capsys.readouterr().err


def test_a_worker_elsewhere_has_its_data_elsewhere(
    finished: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved.npz"
    moved.write_bytes(data.read_bytes())
    assert call("worker", "--out", str(finished), "--data", str(moved)) == 0
    moved.write_bytes(moved.read_bytes() + b" ")
    capsys.readouterr()
    assert call("worker", "--out", str(finished), "--data", str(moved)) == 2
    assert "has changed since the search began" in " ".join(capsys.readouterr().err.split())


def test_a_baseline_that_fails_ends_the_search(data: Path, tmp_path: Path) -> None:
    # well in the command, not in its workers
    (tmp_path / "my_costs.py").write_text(
        "from multiprocessing import parent_process\n"
        "def area(config, shape, model):\n"
        "    return 1 / (parent_process() is None)\n"
    )
    ended = subprocess.run(
        program(*command(data, tmp_path / "out", "--penalty", "my_costs:area")),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    said = " ".join(ended.stderr.split())
    assert ended.returncode == 2
    assert "cannot be trained: ZeroDivisionError: division by zero (my_costs.py:3)" in said
    assert said.endswith("mend it, and begin another search")


@pytest.mark.parametrize(
    ("more", "change"),
    [
        (("--seed", "5"), "seed was 0, now 5"),
        (("--latency-batch", "5"), "settings.latency_batch was 1, now 5"),
    ],
)
def test_another_search_in_the_same_folder_is_refused(
    more: tuple[str, str],
    change: str,
    finished: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(*command(data, finished, *more)) == 2
    assert f"holds another search named 'first': {change};" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--wc", "-1"], "w_c must be 0 or more and finite, got -1"),
        (["--wc", "a"], "--wc takes numbers with commas between"),
        (["--penalty", "clocks"], "clocks"),
        (["--penalty", "edges=x"], "--penalty takes NAME or NAME=SHARE"),
        (["--space", "tree"], "unknown space 'tree'"),
        (["--storage", "mysql://a/b"], "a ledger is kept in SQLite or PostgreSQL, not in mysql;"),
        (["--latency-batch", "0"], "latency_batch must be at least 1 sample, got 0"),
        (["--validation", "1.5"], "the validation fraction must lie between 0 and 1"),
        (["--wc", "1", "--filter", "naswot"], "the naswot filter foretells the error"),
        (
            ["--wc", "1", "--pruner", "curve", "--penalty", "seconds_per_epoch"],
            "the curve pruner needs complexities that follow from the network alone",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(
    data: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert call("run", "--data", str(data), "--out", str(out), *arguments) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_device_that_is_not_here_is_named_before_the_search_is_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    out = tmp_path / "out"
    assert call("run", "--data", str(data), "--out", str(out), "--device", "cuda") == 2
    assert "the device 'cuda' cannot be used here" in capsys.readouterr().err
    assert not out.exists()


def test_a_space_that_raises_is_named_before_the_search_is_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "mine.py", tmp_path / "out"
    file.write_text(
        "from dnc_search.spaces import Mlp\n"
        "class Mine(Mlp):\n"
        "    def summary(self, config, shape):\n"
        "        raise KeyError('nodes')\n"
    )
    assert call("run", "--data", str(data), "--out", str(out), "--space", f"{file}:Mine") == 2
    assert "the space cannot sum up the configuration" in capsys.readouterr().err
    assert not out.exists()


def test_an_own_complexity_that_is_no_number_is_named_before_the_search_is_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "costs_below_zero.py").write_text("def area(*_):\n    return -1\n")
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out"
    assert call(*command(data, out, "--penalty", "costs_below_zero:area")) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "'costs_below_zero:area' cannot be taken of the largest network" in said
    assert "returned -1.0; a complexity must be finite and 0 or more" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"y_val": [1, 1, 1]}, "all 3 validation samples of mine are of class 1, so every"),
        ({"y_val": [0, 5, 7]}, "validation samples of mine are of class 5, 7, of which there is"),
        ({"y_test": [0, 1, 4]}, "test samples of mine are of class 4, of which there is no"),
        ({"y_test": [0, 0, 0]}, "all 3 test samples of mine are of class 0, so every network"),
        (
            {"y_train": [0, 1, 9]},
            "mine has no training sample of 7 of its 10 classes: 2, 3, 4, ...; number the labels "
            "0..2",
        ),
    ],
)
def test_labels_that_cannot_be_judged_are_refused(
    labels: dict[str, list[int]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, x = tmp_path / "mine.npz", np.random.default_rng(0).random((3, 2), np.float32)
    y: dict[str, Any] = {"y_train": [0, 1, 1], "y_val": [0, 1, 1], "y_test": [0, 1, 1], **labels}
    np.savez(file, x_train=x, x_val=x, x_test=x, **y)
    assert call("run", "--data", str(file), "--out", str(tmp_path / "out")) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_regression_on_what_may_be_classes_is_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def task(targets: torch.Tensor) -> DataSet:
        split = Split(torch.rand(len(targets), 3), targets[:, None])
        return DataSet("mine", split, split, None, 0)

    tell_task(task(torch.arange(9.0) % 4))
    shown = capsys.readouterr()
    assert shown.out == "mine: regression, 1 target, 3 features; 9 train, 9 test samples\n"
    # what is doubtful is told where the data are read
    assert not shown.err


def test_missing_data_and_ledgers_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "--data", "none.npz", "--out", str(tmp_path)) == 2
    assert "none.npz does not exist" in capsys.readouterr().err
    assert call("status", "--out", str(tmp_path / "nothing")) == 2
    assert "there is no ledger at" in capsys.readouterr().err
    assert call("worker", "--out", str(tmp_path)) == 2
    assert "there is no ledger at" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
    Ledger(sqlite_url(tmp_path), "a").close()
    assert call("status") == 2
    assert "say where the search is: --out" in capsys.readouterr().err
    assert call("worker", "--storage", sqlite_url(tmp_path), "--name", "b") == 2
    assert "holds no search named 'b'; there: none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "texts", "blocks"),
    [
        # the default of searches before "auto"
        (SparseMlp(blocks=(1,)), [], (1,)),
        (SparseMlp(blocks=(1,)), ["blocks=auto"], ("auto",)),
        (SparseMlp(blocks=(1,)), ["nodes=8,32"], (1,)),
        (SparseMlp(), [], ("auto",)),
        (SparseMlp(blocks=(4,)), [], ("auto",)),
        (None, [], ("auto",)),
    ],
)
def test_a_search_goes_on_with_the_blocks_it_began_with(
    before: SparseMlp | None, texts: list[str], blocks: tuple[object, ...], tmp_path: Path
) -> None:
    url = sqlite_url(tmp_path)
    if before is not None:
        with Ledger(url, "toy") as ledger:
            ledger.define(replace(SEARCH, space=space_record(before)))
    space = space_of("sparse-mlp", texts, url, "toy")
    assert isinstance(space, SparseMlp)
    assert space.blocks == blocks
    assert space.nodes == ((8, 32) if "nodes=8,32" in texts else (16, 1024))


def test_ctrl_c_stops_all_workers_and_the_same_command_goes_on(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "first"
    # enough epochs for a candidate to be under way when the signal comes
    arguments = [*command(data, out), "--epochs", "60"]
    process = subprocess.Popen(
        program(*arguments), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("architecture 1"):
            break
    # as a terminal does: to all its processes
    os.killpg(process.pid, signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130, rest
    assert "stopped; candidates in training were given back" in rest
    assert "Traceback" not in rest
    time.sleep(0.1)
    with Ledger(sqlite_url(out), "first") as ledger:
        states = [trial.state.name for trial in ledger.trials("architecture")]
        assert "RUNNING" not in states
    ended = subprocess.run(program(*arguments), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr

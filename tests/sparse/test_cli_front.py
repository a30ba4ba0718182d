"""`dnc-sparse front`: tables, records and figures, and a run that goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sparse.small_runs import code

from dnc_sparse import processes
from dnc_sparse.cli import demo
from dnc_sparse.front import costs, runs
from dnc_sparse.training import Diverged

pytestmark = pytest.mark.usefixtures("wide")


@pytest.fixture(autouse=True)
def _quick_and_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes, short turns."""

    def results(
        function: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        jobs: int,
        hear: Callable[[int, Any], None] = lambda index, told: None,
    ) -> Generator[tuple[int, Any], None, None]:
        for index, call in enumerate(calls):
            monkeypatch.setattr(processes, "tell", partial(hear, index))
            yield index, function(*call)

    monkeypatch.setattr(processes, "results", results)
    monkeypatch.setattr(costs, "SECONDS_A_TURN", 0.001)


def command(data: str, out: Path, *more: str) -> list[str]:
    networks = ["--dense", "4,16", "--sparse", "12,48", "--density", "1/2,1/4", "--block", "3"]
    recipe = ["--epochs", "1", "--batch-size", "64", "--rates", "0.01,0.02", "--seeds", "2"]
    return ["front", "--data", data, *networks, *recipe, "--out", str(out), *more]


def test_front_writes_table_record_and_figure(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    assert code(*command(data, out)) == 0
    shown = capsys.readouterr()
    # two dense ones; of the sparse ones the wide are larger than the largest dense one
    names = ["dense, h = 4", "dense, h = 16", "1/2, 3x3, h = 12", "1/4, 3x3, h = 12"]
    assert "training [16/16]" in shown.err
    assert "measuring [5/5] time" in shown.err
    assert all(name in shown.out for name in names)
    record = json.loads((out / "front.json").read_text())
    assert sorted({point["name"] for point in record["points"]}) == sorted(names)
    assert record["task"]["rates"] == [0.01, 0.02]
    for point in record["points"]:
        assert len(point["tests"]) == 2
        assert 0 <= point["test_accuracy"] <= 1
        assert point["seconds"] == pytest.approx(point["seconds_per_epoch"])
        assert point["rate"] in (0.01, 0.02)
        assert point["rate_at_edge"]
    assert all(line in " ".join(shown.out.split()) for line in record["sentences"])
    written = ["costs.jsonl", "front.json", "front.png", "runs.jsonl"]
    assert sorted(path.name for path in out.iterdir()) == written
    # nothing is done twice, and one more seed adds the runs of that seed only
    assert code(*command(data, out, "--seeds", "3")) == 0
    again = capsys.readouterr()
    assert "holds 16 finished runs" in " ".join(again.out.split())
    assert again.err.count("training [") == 4
    assert "measuring" not in again.err


def test_front_chooses_the_rate_by_validation(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = runs.train

    def rated(task: runs.FrontTask, job: runs.Job, data: Any) -> runs.Run:
        run = trained(task, job, data)
        # the larger rate is better in validation, and worse in the tests
        accuracy = job.rate if not job.final else 1 - job.rate
        return runs.Run(**{**vars(run), "accuracy": accuracy})

    monkeypatch.setattr(runs, "train", rated)
    assert code(*command(data, tmp_path, "--no-memory")) == 0
    record = json.loads((tmp_path / "front.json").read_text())
    assert {point["rate"] for point in record["points"]} == {0.02}
    assert {round(point["test_accuracy"], 9) for point in record["points"]} == {0.98}
    assert {point["peak_mib"] for point in record["points"]} == {None}
    assert list(record["fronts"]) == ["seconds", "parameters"]
    # memory can be asked for later
    assert code(*command(data, tmp_path)) == 0
    record = json.loads((tmp_path / "front.json").read_text())
    assert None not in {point["peak_mib"] for point in record["points"]}
    assert list(record["fronts"]) == ["seconds", "parameters", "memory"]


def test_a_rate_at_which_training_diverges_is_not_chosen(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = runs.fit

    def diverging(model: Any, data: Any, config: Any, **options: Any) -> Any:
        if config.learning_rate == 0.02:
            raise Diverged("the loss became nan in epoch 1")
        return fit(model, data, config, **options)

    monkeypatch.setattr(runs, "fit", diverging)
    assert code(*command(data, tmp_path, "--no-memory")) == 0
    record = json.loads((tmp_path / "front.json").read_text())
    assert {point["rate"] for point in record["points"]} == {0.01}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--density", "a/b"], "--density takes numbers or fractions with commas between"),
        (["--density", "1/0"], "--density takes numbers or fractions with commas between"),
        (["--block", "5"], "a front needs dense and sparse networks, got 2 and 0: of 0 sparse"),
        (["--sparse", "639"], "got 2 and 0: of 2 sparse ones that exist, those above 512 weights"),
        (["--rates", "0"], "learning_rate must be above 0, got 0.0"),
    ],
)
def test_front_refuses(
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert code(*command(data, tmp_path / "out", *options)) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_front_is_not_replaced_by_another(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {
        "task": {"data": "mnist", "options": {}, "epochs": 1},
        "points": [{"network": {"depth": 2}}],
    }
    path = tmp_path / "front.json"
    path.write_text(json.dumps(before))
    assert code(*command(data, tmp_path)) == 2
    error = capsys.readouterr().err
    assert error == (
        f"error: {path} is the front of another task: data mnist, now {data}; name another folder\n"
    )
    path.write_text("[]")
    assert code(*command(data, tmp_path)) == 2
    assert "front.json is no front of dnc-sparse (" in capsys.readouterr().err
    other = tmp_path / "compared"
    other.mkdir()
    (other / "comparison.json").touch()
    assert code(*command(data, other)) == 2
    assert "holds results of dnc-sparse compare (comparison.json)" in capsys.readouterr().err


def test_demo_to_its_end_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the demo reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    small = replace(demo.TASK, options={"samples": 360}, epochs=1, rates=(0.004,), seeds=1)
    monkeypatch.setattr(demo, "TASK", small)
    assert code("demo", "--out", str(tmp_path)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("3 sparse networks learn to read", "At equal parameters", "dnc-sparse advise"):
        assert text in shown
    record = json.loads((tmp_path / "front.json").read_text())
    names = {point["name"] for point in record["points"]}
    assert names == {
        *("dense, h = 128", "dense, h = 256", "dense, h = 384"),
        *("1/8, 8x8, h = 512", "1/16, 8x8, h = 1024", "1/8, 8x8, h = 1024"),
    }

"""Runs that are interrupted, killed, damaged or prolonged: the last checkpoint is never lost."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from sparse.small_data import clusters
from sparse.small_runs import CONFIG, DATA, assert_same, fill_disk, network, resume_with, train
from torch import nn

from dnc_sparse import checkpoint, run_folder
from dnc_sparse.data import DataSet, Split
from dnc_sparse.training import Interrupted, evaluate


class Stop(nn.Module):
    """Raises `error` in the forward pass of training step `step`, counted from 0."""

    def __init__(self, inner: nn.Module, step: int, error: BaseException) -> None:
        super().__init__()
        self.inner, self.left, self.error = inner, step, error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            if self.left == 0:
                raise self.error
            self.left -= 1
        y: torch.Tensor = self.inner(x)
        return y


def saved(folder: Path) -> int:
    """Return how many epochs the checkpoint holds."""
    return len(checkpoint.read(folder / "checkpoint.pt")["history"])


def lines(folder: Path) -> int:
    return len((folder / "history.jsonl").read_text().splitlines())


# --- run folder and resume


def test_run_folder_holds_settings_history_and_weights(tmp_path: Path) -> None:
    model = network()
    history = train(model, run_dir=tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "checkpoint.pt",
        "config.json",
        "history.jsonl",
        "weights.safetensors",
    ]
    assert json.loads((tmp_path / "run/config.json").read_text())["learning_rate"] == 0.01
    written = (tmp_path / "run/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in written] == [row.loss for row in history.epochs]
    weights = safetensors.torch.load_file(tmp_path / "run/weights.safetensors")
    assert torch.equal(weights["0.weight"], model[0].weight)


@pytest.mark.parametrize("checkpoint_every", [1, 2])
def test_interrupted_run_resumes_bit_for_bit(tmp_path: Path, checkpoint_every: int) -> None:
    whole, broken, resumed = network(), network(), network()
    train(whole)
    # 5 steps an epoch: epoch 4 is under way, and with checkpoint_every=2 epoch 3 is in memory only
    with pytest.raises(Interrupted, match=r"^stopped after 3 of 4 epochs; continue with resume=Tr"):
        train(
            Stop(broken, 17, KeyboardInterrupt()),
            run_dir=tmp_path,
            checkpoint_every=checkpoint_every,
        )
    history = train(Stop(resumed, -1, AssertionError()), run_dir=tmp_path, resume=True)
    assert_same(whole, resumed)
    assert [row.epoch for row in history.epochs] == [1, 2, 3, 4]
    assert lines(tmp_path) == 4


def test_ctrl_c_without_a_folder_passes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Stop(network(), 3, KeyboardInterrupt()))


@pytest.mark.parametrize("error", [ZeroDivisionError("by chance"), SystemExit(3)])
def test_any_error_keeps_the_last_whole_epoch(tmp_path: Path, error: BaseException) -> None:
    whole, resumed = network(), network()
    train(whole)
    with pytest.raises(type(error)) as raised:
        train(Stop(network(), 17, error), run_dir=tmp_path, checkpoint_every=10)
    assert raised.value is error
    assert saved(tmp_path) == 3
    train(Stop(resumed, -1, AssertionError()), run_dir=tmp_path, resume=True)
    assert_same(whole, resumed)
    assert lines(tmp_path) == 4


def test_a_diverging_run_keeps_the_epochs_before(tmp_path: Path) -> None:
    class Diverge(Stop):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                return super().forward(x)
            except ZeroDivisionError:
                return self.inner(x) * float("nan")

    with pytest.raises(RuntimeError, match=r"^the loss became nan in epoch 4; lower the learning"):
        train(Diverge(network(), 17, ZeroDivisionError()), run_dir=tmp_path, checkpoint_every=10)
    assert saved(tmp_path) == 3


@pytest.mark.parametrize(("place", "kept"), [("pack", 3), ("append_line", 3), ("deepcopy", 2)])
def test_ctrl_c_while_an_epoch_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, kept: int
) -> None:
    """The message counts what can be resumed, wherever in the third record it comes."""
    owner = run_folder if place == "deepcopy" else checkpoint
    work, calls = getattr(owner, place), []

    def stop(*arguments: object) -> object:
        calls.append(place)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(*arguments)

    monkeypatch.setattr(owner, place, stop)
    with pytest.raises(Interrupted, match=rf"^stopped after {kept} of 4 epochs; continue with"):
        train(network(), run_dir=tmp_path, checkpoint_every=10 if place == "deepcopy" else 1)
    monkeypatch.undo()
    assert saved(tmp_path) == kept
    assert len(train(network(), run_dir=tmp_path, resume=True).epochs) == 4


def test_checkpoints_are_packed_only_when_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, packed = checkpoint.pack, []

    def count(record: dict[str, list[object]]) -> bytes:
        packed.append(len(record["history"]))
        return pack(record)

    monkeypatch.setattr(checkpoint, "pack", count)
    train(network(), run_dir=tmp_path, checkpoint_every=3)
    assert packed == [3, 4]


def test_the_last_epoch_is_evaluated_when_fewer_are_asked_for(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=6, eval_every=5)
    with pytest.raises(Interrupted):
        train(Stop(network(), 17, KeyboardInterrupt()), config, run_dir=tmp_path)
    model = Stop(network(), -1, AssertionError())
    shorter = replace(config, epochs=3)
    history = train(model, shorter, run_dir=tmp_path, resume=True)
    assert [row.epoch for row in history.epochs] == [1, 2, 3]
    assert history.test_accuracy == evaluate(model, DATA.test)
    assert history.epochs[-1].validation_accuracy is not None
    # the files know it too
    assert (
        json.loads((tmp_path / "history.jsonl").read_text().splitlines()[-1]) == history.rows()[-1]
    )
    assert train(model, shorter, run_dir=tmp_path, resume=True) == history
    assert lines(tmp_path) == 3


def test_a_finished_run_can_be_prolonged(tmp_path: Path) -> None:
    whole, model = network(), network()
    train(whole, replace(CONFIG, epochs=6))
    train(model, run_dir=tmp_path)
    train(model := network(7), replace(CONFIG, epochs=6), run_dir=tmp_path, resume=True)
    assert_same(whole, model)


def test_resume_without_a_run_starts_one(tmp_path: Path) -> None:
    assert len(train(network(), run_dir=tmp_path / "new", resume=True).epochs) == 4


# --- data that changed


def changed(part: str) -> DataSet:
    """The data with one value of one split changed."""
    split = DATA.splits["train" if part == "feature" else part]
    x, y = split.x.clone(), split.y.clone()
    if part == "feature":
        x[7, 3] += 1
        return replace(DATA, train=Split(x, y))
    y[5] = (y[5] + 1) % 4
    return replace(DATA, **{part: Split(x, y)})


@pytest.mark.parametrize("part", ["train", "feature", "validation", "test"])
def test_resume_refuses_data_of_other_contents(tmp_path: Path, part: str) -> None:
    train(network(), run_dir=tmp_path)
    message = (
        rf"^{re.escape(str(tmp_path))}/checkpoint.pt was written with data of other contents "
        r"\(sha256 [0-9a-f]{12}, now [0-9a-f]{12}\); resume with the same settings, or start in"
    )
    with pytest.raises(ValueError, match=message):
        resume_with(tmp_path, network(), replace(CONFIG, epochs=6), changed(part))
    # the same values in other memory are the same data
    again = replace(DATA, train=Split(DATA.train.x.clone(), DATA.train.y.clone()))
    resume_with(tmp_path, network(), replace(CONFIG, epochs=6), again)
    assert saved(tmp_path) == 6


def test_resume_of_a_run_that_did_not_keep_its_data(tmp_path: Path) -> None:
    train(network(), run_dir=tmp_path)
    path = tmp_path / "checkpoint.pt"
    record = checkpoint.read(path)
    del record["settings"]["data_sha256"]
    checkpoint.write_atomic(path, checkpoint.pack(record))
    message = (
        rf"^{re.escape(str(path))} was written by an older release, which did not keep what its "
        r"data contain; make sure that they are the same$"
    )
    with pytest.warns(UserWarning, match=message):
        train(network(), replace(CONFIG, epochs=6), run_dir=tmp_path, resume=True)
    # from then on it does
    with pytest.raises(ValueError, match=r"data of other contents"):
        resume_with(tmp_path, network(), replace(CONFIG, epochs=8), changed("train"))


# --- what can go wrong


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    train(network(), run_dir=tmp_path)
    message = (
        rf"^{re.escape(str(tmp_path))} already holds a run \(checkpoint.pt, config.json\); "
        r"continue it with resume=True \(--resume\), or name another folder$"
    )
    with pytest.raises(FileExistsError, match=message):
        train(network(), run_dir=tmp_path)


def test_resume_needs_a_folder() -> None:
    with pytest.raises(ValueError, match=r"^resume needs run_dir, the folder of the run to conti"):
        train(network(), resume=True)


def test_checkpoint_every_is_checked() -> None:
    with pytest.raises(ValueError, match=r"^checkpoint_every must be at least 1 epoch, got 0$"):
        train(network(), checkpoint_every=0)
    with pytest.raises(ValueError, match=r"^checkpoint_every must be an integer, got 2\.5$"):
        train(network(), checkpoint_every=2.5)


@pytest.mark.parametrize(("below", "reason"), [("", "it is a file"), ("run", "Not a directory")])
def test_run_dir_that_cannot_be(tmp_path: Path, below: str, reason: str) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    message = rf"^cannot use \S*{below} as a folder: {reason}; name another folder$"
    with pytest.raises(RuntimeError, match=message):
        train(network(), run_dir=path / below)
    assert path.read_text() == "mine"


def test_resume_with_other_settings(tmp_path: Path) -> None:
    train(network(), run_dir=tmp_path)
    message = (
        "checkpoint.pt was written with learning_rate 0.01, now 0.02; seed 3, now 4; "
        "resume with the same settings, or start in another folder"
    )
    with pytest.raises(ValueError, match=rf"^\S*{re.escape(message)}$"):
        resume_with(tmp_path, network(), replace(CONFIG, learning_rate=0.02, seed=4))
    with pytest.raises(ValueError, match=r"^\S*checkpoint.pt was written with samples 150, now 90"):
        resume_with(tmp_path, network(), CONFIG, clusters(samples=90))
    with pytest.raises(ValueError, match="has 4 epochs already, more than the 2 asked for; ask"):
        resume_with(tmp_path, network(), replace(CONFIG, epochs=2))


def test_resume_with_another_model(tmp_path: Path) -> None:
    train(network(), run_dir=tmp_path)
    message = r"^\S*checkpoint.pt was written with layers .*, now .*; resume with the same"
    with pytest.raises(ValueError, match=message):
        resume_with(tmp_path, network(hidden=8), CONFIG)


def test_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, resumed = network(), network()
    train(whole)
    synced = os.fsync
    calls: list[int] = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    message = r"^cannot (write|append to) \S*: No space left on device; .*run again$"
    with pytest.raises(RuntimeError, match=message):
        train(network(), run_dir=tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.tmp"))
    assert 0 < saved(tmp_path) < CONFIG.epochs
    train(resumed, run_dir=tmp_path, resume=True)
    assert_same(whole, resumed)


@pytest.mark.parametrize(
    ("name", "mode", "message", "kept"),
    [
        (
            "history.jsonl",
            "a",
            r"^cannot append to \S*history.jsonl: No space left on device; m",
            1,
        ),
        (
            "weights.safetensors.tmp",
            "wb",
            r"^cannot write \S*weights.safetensors: No space left",
            4,
        ),
    ],
)
def test_full_disk_for_another_file_keeps_the_checkpoint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    mode: str,
    message: str,
    kept: int,
) -> None:
    whole, resumed = network(), network()
    train(whole)
    fill_disk(monkeypatch, name, mode)
    with pytest.raises(RuntimeError, match=message):
        train(network(), run_dir=tmp_path)
    monkeypatch.undo()
    assert saved(tmp_path) == kept
    train(resumed, run_dir=tmp_path, resume=True)
    assert_same(whole, resumed)
    assert lines(tmp_path) == 4
    assert (tmp_path / "weights.safetensors").exists()


def test_an_error_is_not_hidden_by_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, "checkpoint.pt.tmp", "wb")
    error = ZeroDivisionError("by chance")
    with pytest.raises(ZeroDivisionError, match=r"^by chance") as raised:
        train(Stop(network(), 17, error), run_dir=tmp_path, checkpoint_every=10)
    (note,) = raised.value.__notes__
    assert re.match(r"epochs after the last checkpoint are lost: cannot write \S*checkpoint", note)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import dnc_sparse.checkpoint
from sparse.small_runs import network, train

replace, seen = Path.replace, []
def kill_between_write_and_rename(path, target):
    if Path(target).name == "checkpoint.pt":
        seen.append(path)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
Path.replace = kill_between_write_and_rename
train(network(), run_dir=sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on Windows")
def test_kill_during_a_checkpoint_keeps_the_last(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(tests)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "checkpoint.pt.tmp").exists()
    assert saved(tmp_path) == 2
    whole, resumed = network(), network()
    train(whole)
    train(resumed, run_dir=tmp_path, resume=True)
    assert_same(whole, resumed)
    assert not list(tmp_path.glob("*.tmp"))

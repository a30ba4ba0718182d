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
from sparse.small_runs import CONFIG, DATA, assert_same, network, train
from torch import nn

from dnc_sparse import checkpoint
from dnc_sparse.data import DataSet
from dnc_sparse.training import FitConfig, Interrupted, fit


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
    lines = (tmp_path / "run/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [row.loss for row in history.epochs]
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
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 4


def test_ctrl_c_without_a_folder_passes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Stop(network(), 3, KeyboardInterrupt()))


def test_crash_between_checkpoints_repeats_the_lost_epochs(tmp_path: Path) -> None:
    whole, resumed = network(), network()
    train(whole)
    with pytest.raises(ZeroDivisionError):
        train(Stop(network(), 17, ZeroDivisionError()), run_dir=tmp_path, checkpoint_every=2)
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 3
    train(Stop(resumed, -1, AssertionError()), run_dir=tmp_path, resume=True, checkpoint_every=2)
    assert_same(whole, resumed)
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 4


def test_a_finished_run_can_be_prolonged(tmp_path: Path) -> None:
    whole, model = network(), network()
    train(whole, replace(CONFIG, epochs=6))
    train(model, run_dir=tmp_path)
    train(model := network(7), replace(CONFIG, epochs=6), run_dir=tmp_path, resume=True)
    assert_same(whole, model)


def test_resume_without_a_run_starts_one(tmp_path: Path) -> None:
    assert len(train(network(), run_dir=tmp_path / "new", resume=True).epochs) == 4


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


def resume_with(folder: Path, model: nn.Module, config: FitConfig, data: DataSet = DATA) -> None:
    fit(model, data, config, run_dir=folder, resume=True, progress=False)


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
    message = r"^\S*checkpoint.pt holds another model: .*size mismatch.*; build the model as it was"
    with pytest.raises(ValueError, match=message):
        resume_with(tmp_path, network(hidden=8), CONFIG)


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_truncated_checkpoint(tmp_path: Path, keep: int) -> None:
    train(network(), run_dir=tmp_path)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:keep])
    message = (
        rf"^\S*checkpoint.pt \({keep} bytes\) is truncated, or was not written by dnc-sparse: it "
        "does not end with a checksum; restore it from a copy, or delete it and start the run again"
    )
    with pytest.raises(ValueError, match=message):
        resume_with(tmp_path, network(), CONFIG)


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    whole = checkpoint.pack({"model": network().state_dict()})
    for place in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^\S*checkpoint.pt \(\d+ bytes\) is (damaged|trunc)"):
            checkpoint.read(path)
    path.write_bytes(whole)
    resumed = network(1)
    resumed.load_state_dict(checkpoint.read(path)["model"])
    assert_same(network(), resumed)


def test_foreign_checkpoint(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"^\S* \(\d+ bytes\) is truncated, or was not written by"):
        resume_with(tmp_path, network(), CONFIG)


def test_checkpoints_are_read_by_torch_too(tmp_path: Path) -> None:
    train(network(), run_dir=tmp_path)
    record = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert record["history"][-1]["epoch"] == 4


def test_read_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^no checkpoint at \S*; start the run without re"):
        checkpoint.read(tmp_path / "checkpoint.pt")


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
    done = len(checkpoint.read(tmp_path / "checkpoint.pt")["history"])
    assert 0 < done < CONFIG.epochs
    train(resumed, run_dir=tmp_path, resume=True)
    assert_same(whole, resumed)


def test_atomic_write_names_what_it_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        RuntimeError, match=r"^cannot write \S*file: No space .*nothing was there b"
    ):
        checkpoint.write_atomic(path, b"new")
    path.write_bytes(b"old")
    with pytest.raises(
        RuntimeError, match=r"^cannot write \S*file: No space .*before is untouched"
    ):
        checkpoint.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


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
    assert len(checkpoint.read(tmp_path / "checkpoint.pt")["history"]) == 2
    whole, resumed = network(), network()
    train(whole)
    train(resumed, run_dir=tmp_path, resume=True)
    assert_same(whole, resumed)
    assert not list(tmp_path.glob("*.tmp"))

"""Checkpoint files: damaged, foreign or half written ones are refused, with the way out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from sparse.small_runs import CONFIG, assert_same, network, resume_with, train

from dnc_sparse import checkpoint


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


def test_checkpoint_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(checkpoint.pack({"model": network().state_dict()}))
    message = (
        r"^\S*checkpoint.pt is not the checkpoint of a run: it lacks settings, optimizer, history; "
        r"move it away, or name another folder$"
    )
    with pytest.raises(ValueError, match=message):
        resume_with(tmp_path, network(), CONFIG)


def test_checkpoints_are_read_by_torch_too(tmp_path: Path) -> None:
    train(network(), run_dir=tmp_path)
    record = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert record["history"][-1]["epoch"] == 4


def test_read_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^no checkpoint at \S*; start the run without re"):
        checkpoint.read(tmp_path / "checkpoint.pt")


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

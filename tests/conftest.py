"""What holds for every test."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from dnc_sparse import machine
from dnc_sparse.backends import measurements

# a shell that starts tests in the background lets them, and all that they start, ignore Ctrl-C
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Triton decides it when the kernels are imported: without a GPU they run in its interpreter
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def own_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the planner away from what this user's machine has measured, and that from tests."""
    path = tmp_path / "planner.json"
    monkeypatch.setattr(measurements, "file", lambda: path)
    return path


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what else runs on this machine out of what commands warn of."""
    monkeypatch.setattr(machine, "busy_cores", lambda: 0.0)

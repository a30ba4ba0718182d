"""Short training runs on generated data, and commands, shared by tests of several files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from sparse.small_data import clusters
from torch import nn

from dnc_sparse import cli
from dnc_sparse.data import DataSet
from dnc_sparse.training import FitConfig, History, fit

DATA = clusters()
CONFIG = FitConfig(epochs=4, batch_size=32, learning_rate=0.01, lr_decay=1e-3, l2=1e-3, seed=3)


def network(seed: int = 0, hidden: int = 16) -> nn.Sequential:
    """A small net with dropout, so that its random draws are part of what must repeat."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(12, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 4)
        )


def train(model: nn.Module, config: FitConfig = CONFIG, **options: object) -> History:
    return fit(model, DATA, config, progress=False, **options)  # type: ignore[arg-type]


def resume_with(folder: Path, model: nn.Module, config: FitConfig, data: DataSet = DATA) -> None:
    fit(model, data, config, run_dir=folder, resume=True, progress=False)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    states = [model.state_dict() for model in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def fill_disk(monkeypatch: pytest.MonkeyPatch, name: str, mode: str) -> None:
    """Let every opening of files called `name` in this mode fail as on a full disk."""
    opened = Path.open

    def full(path: Path, how: str = "r", *more: Any, **options: Any) -> IO[Any]:
        if path.name == name and how == mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, how, *more, **options)

    monkeypatch.setattr(Path, "open", full)


def here(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], jobs: int, **_: object
) -> Generator[tuple[int, Any], None, None]:
    """Make the calls one after the other in this process, in place of `processes.results`."""
    for index, call in enumerate(calls):
        yield index, function(*call)


def code(*arguments: str) -> int:
    """Run the command and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    return int(stop.value.code or 0)

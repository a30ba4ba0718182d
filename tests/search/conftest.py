"""A small finished search, for all tests of the commands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from search.small_search import command, program


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of four features, which a small network tells apart."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = (rng.normal(size=(120, 4)) + 2 * np.eye(3, 4)[y]).astype(np.float32)
    file = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(file, x_train=x[:90], y_train=y[:90], x_test=x[90:], y_test=y[90:])
    return file


@pytest.fixture(scope="session")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search."""
    out = tmp_path_factory.mktemp("runs") / "first"
    ended = subprocess.run(
        program(*command(data, out, "--jobs", "2")), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    # a line per candidate, and the best at the end
    assert "baseline 1/1" in ended.stderr
    assert "small: classification, 3 classes, 4 features; 72 train, 18 valid" in ended.stdout
    assert "slots done: the search is finished" in ended.stdout
    assert "ledger and weights are in" in ended.stdout
    return out

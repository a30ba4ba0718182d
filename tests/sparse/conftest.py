"""What the tests of the commands begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
from sparse.small_data import write_npz


@pytest.fixture
def data(tmp_path: Path) -> str:
    """The clusters as a user's own data set."""
    return str(write_npz(tmp_path / "clusters.npz"))


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that breaks no line of a table."""
    monkeypatch.setenv("COLUMNS", "160")

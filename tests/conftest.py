"""What holds for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnc_sparse.backends import measurements


@pytest.fixture(autouse=True)
def own_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the planner away from what this user's machine has measured, and that from tests."""
    path = tmp_path / "planner.json"
    monkeypatch.setattr(measurements, "file", lambda: path)
    return path

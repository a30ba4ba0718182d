"""Where tests find the published data files; a test that needs them is skipped without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def data_dir(name: str) -> Path:
    """Return the folder that holds the folder `name` of a data set, or skip the test."""
    named = os.environ.get("DNC_DATA")
    for folder in ([Path(named)] if named else []) + [BESIDE]:
        if (folder / name).is_dir():
            return folder
    return pytest.skip(
        f"no {name} files: neither DNC_DATA ({named or 'not set'}) nor ../shared/data beside the "
        f"repository has a folder {name}"
    )

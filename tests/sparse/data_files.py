"""Where tests find the published data files; a test that needs them is skipped without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# read before any test clears it
NAMED = os.environ.get("DNC_DATA")
BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def data_dir(name: str) -> Path:
    """Return the folder that holds the folder `name` of a data set, or skip the test."""
    for folder in ([Path(NAMED)] if NAMED else []) + [BESIDE]:
        if (folder / name).is_dir():
            return folder
    return pytest.skip(
        f"no {name} files: neither DNC_DATA ({NAMED or 'not set'}) nor ../shared/data beside the "
        f"repository has a folder {name}"
    )

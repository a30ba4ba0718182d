"""The comparison of samplers, in its quick mode."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dnc_search.sampler import SAMPLERS

EXAMPLE = Path(__file__).parents[2] / "examples" / "compare_samplers.py"


def test_quick_mode_compares_all_samplers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = [sys.executable, str(EXAMPLE), "--quick", "--seeds", "1", "--jobs", "1"]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "| mean rank |" in ended.stdout
    (study,) = json.loads((tmp_path / "samplers.json").read_text()).values()
    for sampler in SAMPLERS:
        (curve,) = study[sampler]
        assert len(curve) == study["study"]["initial"] + study["study"]["steps"]
        assert curve == sorted(curve, reverse=True)
    assert (tmp_path / "samplers.png").is_file()
    assert len(list(tmp_path.glob("*/ledger.db"))) == len(SAMPLERS)

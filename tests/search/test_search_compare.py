"""The comparisons of samplers, in quick mode, and of the fronts of what they found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dnc_search.sampler import SAMPLERS

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*command: str | Path) -> str:
    script, *arguments = map(str, command)
    return subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_quick_mode_compares_all_samplers_and_their_fronts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    quick = ("--quick", "--seeds", "1", "--jobs", "1", "--out", tmp_path)
    assert "| mean rank |" in run("compare_samplers.py", *quick)
    (study,) = json.loads((tmp_path / "samplers.json").read_text()).values()
    for sampler in SAMPLERS:
        (curve,) = study[sampler]
        assert len(curve) == study["study"]["initial"] + study["study"]["steps"]
        assert curve == sorted(curve, reverse=True)
    assert (tmp_path / "samplers.png").is_file()
    folders = {name: tmp_path / "samplers" / f"morse-{name}-0" for name in SAMPLERS}
    assert all((folder / "ledger.db").is_file() for folder in folders.values())

    kinds = [part for name, folder in folders.items() for part in ("--kind", f"{name}={folder}")]
    header, _, *rows, written = run(
        "compare_fronts.py", *kinds, "--out", tmp_path / "fronts.png"
    ).splitlines()
    assert header == "| parameters up to | ramp % | tpe % | gp % | random % | random - ramp |"
    # the largest candidate of all is within the last size, so every sampler has its best there
    best = [float(cell) for cell in rows[-1].split("|")[2:6]]
    assert all(0 < error < 100 for error in best)
    assert float(rows[-1].split("|")[6]) == pytest.approx(best[-1] - best[0], abs=0.011)
    assert written == f"written: {tmp_path / 'fronts.png'}"
    assert (tmp_path / "fronts.png").is_file()

"""The accuracy study: its networks are comparable, its tables say what they should, it goes on."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib").use("agg")
SCRIPT = Path(__file__).parents[2] / "examples" / "accuracy_study.py"
STUDY: dict[str, Any] = runpy.run_path(str(SCRIPT))


def run_study(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def cells(**changes: list[float]) -> dict[tuple[str, int], np.ndarray]:
    """Accuracies of 90, 91 and 92 for all but the named variants."""
    same = {(name, 4): np.array([90.0, 91.0, 92.0]) for name in STUDY["VARIANTS"]}
    others = {(name, 4): np.array(values) for name, values in changes.items()}
    return {**same, **others, ("dense", 1): np.array([95.0, 95.0, 95.0])}


def row(table: str, head: str) -> list[str]:
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {head} |"))
    return [text.strip() for text in line.strip("|").split("|")][1:]


def test_variants_differ_in_the_edges_not_in_their_number() -> None:
    study = STUDY["FULL"]
    versions = study.versions()
    assert len(versions) == 8 * 4 + 1
    for share in study.shares:
        own = {name: versions[name, share] for name in STUDY["VARIANTS"]}
        models = {name: version.build(0) for name, version in own.items()}
        expected = (1024 * 512 // share, 512 * 512 // share, 512 * 10)
        assert {model.edges for model in models.values()} == {expected}
        assert len({model.junctions[0].pattern.digest for model in models.values()}) == 8
        specs = {name: model.junctions[1].pattern.spec for name, model in models.items()}
        assert specs["1x1 interleaved"]["bank_map"] == "interleaved"
        assert specs.pop("1x1 regular")["family"] == "regular"
        assert specs.pop("1x1 random")["family"] == "random"
        assert {spec["family"] for spec in specs.values()} == {"clash_free"}


def test_bold_accuracies_are_those_the_best_does_not_beat() -> None:
    # 4x4 varies with the seeds as the best one does and is always behind it, 8x8 is not always
    made = cells(**{"16x16": [92, 93, 94], "4x4": [91.5, 92.4, 93.5], "8x8": [93.9, 93, 92]})
    table = STUDY["accuracy_table"](made, (4,))
    assert row(table, "16x16") == ["**93.00 ± 2.48**"]
    assert row(table, "8x8") == ["**92.97 ± 2.36**"]
    assert row(table, "4x4") == ["92.47 ± 2.49"]
    assert row(table, "1x1 blocked") == ["91.00 ± 2.48"]
    assert table.endswith("dense: 95.00 ± 0.00")


def test_bold_differences_are_those_that_exclude_zero() -> None:
    # t(0.975, 2) = 4.303; differences 1, 1, 1.3 and -2, 0, 2
    made = cells(**{"2x2": [91, 92, 93.3], "8x8": [88, 91, 94]})
    table = STUDY["difference_table"](made, (4,))
    assert row(table, "2x2") == ["**+1.10 ± 0.43**"] * 2
    assert row(table, "8x8") == ["+0.00 ± 4.97"] * 2
    assert "1x1 blocked" not in table.partition("\n")[2]


def test_data_sets_are_averaged_seed_by_seed() -> None:
    one, other = cells(**{"2x2": [92, 93, 94]}), cells(**{"2x2": [90, 90, 90]})
    table = STUDY["difference_table"](STUDY["mean_of"]([one, other]), (4,))
    # differences 1, 0.5 and 0
    assert row(table, "2x2") == ["+0.50 ± 1.24"] * 2


def test_quick_mode_trains_all_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_study(monkeypatch, "--quick", "--seeds", 2, "--out", tmp_path)
    ledger = (tmp_path / "results.jsonl").read_text()
    assert len(ledger.splitlines()) == 2 * (8 + 1)
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")
    first = capsys.readouterr().out
    run_study(monkeypatch, "--quick", "--seeds", 2, "--out", tmp_path)
    again = capsys.readouterr().out
    assert (tmp_path / "results.jsonl").read_text() == ledger
    # the tables, without the lines of the runs
    assert "[18/18]" in first
    assert again == first[first.index("\nmorse-1.0\n") :]


def test_one_seed_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_study(monkeypatch, "--seeds", 1)
    assert "error: an interval needs at least 2 seeds, got 1\n" in capsys.readouterr().err

"""The commands `dnc-search report`, `rescore`, `export` and `transfer` on a finished search."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from search.small_search import call

from dnc_search.cli.found import found
from dnc_search.ledger import Ledger, sqlite_url


def test_report_writes_a_page(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", "--out", str(finished)) == 0
    assert "written:" in capsys.readouterr().out
    page = (finished / "report.html").read_text()
    assert "Test errors are those of 1 new trainings" in re.sub(r"\s+", " ", page)


def test_report_goes_where_it_is_told(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    assert call("report", "--out", str(finished), "--file", str(file)) == 0
    assert file.is_file()


def test_rescore_agrees_with_the_search(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger(sqlite_url(finished), "first", read_only=True) as ledger:
        findings = found(ledger)
    assert call("rescore", "--out", str(finished), "--wc", "0,0.5", "--top", "2") == 0
    shown = capsys.readouterr().out
    for w_c in (0.0, 0.5):
        winner = findings.winner(w_c)
        assert f"w_c = {w_c:g}" in shown
        assert f"{winner.score:.4f}" in shown


def test_rescore_by_another_complexity(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("rescore", "--out", str(finished), "--wc", "1")
    assert call(*arguments, "--penalty", "seconds_per_epoch") == 0
    assert "seconds_per_epoch" in capsys.readouterr().out
    assert call(*arguments, "--penalty", "latency_seconds") == 2
    assert "latency_seconds of the candidate was not measured" in capsys.readouterr().err
    assert call("rescore", "--out", str(finished), "--wc", "-1") == 2
    assert "w_c must be 0 or more" in capsys.readouterr().err


def test_an_exported_network_tests_as_the_search_tested_it(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    assert call("export", "--out", str(finished), "--wc", "0", "--to", str(tmp_path / "best")) == 0
    config = json.loads((tmp_path / "best" / "config.json").read_text())
    script = tmp_path / "best" / "train.py"
    weights = tmp_path / "best" / "weights.safetensors"
    tested = subprocess.run(
        [sys.executable, str(script), "--weights", str(weights)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    # the data file is that of the search, by its full path
    assert tested.stdout.strip() == f"test error {100 * config['test_errors'][0]:.2f} %"


def test_export_where_the_weights_are_not(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(finished / "ledger.db", copy)
    arguments = ("export", "--out", str(copy), "--name", "first", "--to", str(tmp_path / "best"))
    assert call(*arguments) == 0
    assert "no trained weights" in capsys.readouterr().out
    assert (tmp_path / "best" / "initial.safetensors").is_file()
    assert not (tmp_path / "best" / "weights.safetensors").exists()
    assert call(*arguments, "--format", "toml") == 2
    assert "--format must be json or yaml, got 'toml'" in capsys.readouterr().err


def test_transfer_trains_found_networks_on_other_data(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    y = np.arange(100) % 5
    x = (rng.normal(size=(100, 6)) + 2 * np.eye(5, 6)[y]).astype(np.float32)
    other = tmp_path / "other.npz"
    np.savez(other, x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    out = tmp_path / "second"
    arguments = ["transfer", "--from", str(finished), "--data", str(other), "--out", str(out)]
    assert call(*arguments, "--epochs", "1", "--threads", "1") == 0
    with Ledger(sqlite_url(out), "second", read_only=True) as ledger:
        findings = found(ledger)
        assert ledger.stages() == ["baseline", "transferred", "training", "final"]
    with Ledger(sqlite_url(finished), "first", read_only=True) as ledger:
        before = found(ledger)
    depths = [w[0].record.config["hidden_layers"] for w in before.winners().values()]
    transferred = [r for r in findings.records if r.stage == "transferred"]
    assert [record.config["hidden_layers"] for record in transferred] == depths
    assert (findings.shape.n_features, findings.shape.n_outputs) == (6, 5)
    assert findings.finals
    # the same command again finds all done
    assert call(*arguments, "--epochs", "1", "--threads", "1") == 0
    assert "the search is finished" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["report", "rescore --wc 0", "export --to x"])
def test_a_search_that_is_not_there(
    command: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*command.split(), "--out", str(finished), "--name", "second") == 2
    assert "no search named 'second'; there: first" in capsys.readouterr().err
    assert call(*command.split(), "--out", str(tmp_path / "none")) == 2

"""What is taken away of a search: files that rebuild, train and test the network without it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from search.found import SHAPE, SPACE, made_up, with_finals

from dnc_search.export import export
from dnc_search.findings import Findings
from dnc_sparse.data import load
from dnc_sparse.schedules import SCHEDULES


@pytest.fixture
def findings() -> Findings:
    return with_finals(made_up())


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    """Three classes that lie apart: twelve features, of which each class has four at 1."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 240), ("val", 30), ("test", 60)):
        y = np.arange(count) % 3
        x = rng.normal(0, 0.1, (count, 12)) + np.repeat(np.eye(3), 4, axis=1)[y]
        arrays |= {f"x_{part}": x.astype(np.float32), f"y_{part}": y}
    path = tmp_path / "blobs.npz"
    np.savez(path, **arrays)
    return path


def run(script: Path, *arguments: str) -> str:
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_the_script_trains_and_its_weights_can_be_tested(
    findings: Findings, data_file: Path, tmp_path: Path
) -> None:
    export(findings, findings.winner(0.0), tmp_path / "best", 7)
    script = tmp_path / "best" / "train.py"
    saved = tmp_path / "trained.safetensors"
    trained = run(script, "--data", str(data_file), "--epochs", "300", "--save", str(saved))
    assert trained.count("epoch ") == 300
    error = trained.splitlines()[-1]
    assert error == "test error 0.00 %"
    assert run(script, "--data", str(data_file), "--weights", str(saved)).strip() == error


def test_the_weights_are_those_of_the_search(findings: Findings, tmp_path: Path) -> None:
    winner = findings.winner(0.0)
    model = SPACE.build(winner.record.config, SHAPE, 7)
    weights = tmp_path / "final.safetensors"
    safetensors.torch.save_file(model.state_dict(), weights)
    files = export(findings, winner, tmp_path / "best", 7, weights)
    assert [file.name for file in files] == [
        *("config.json", "train.py", "initial.safetensors", "weights.safetensors")
    ]
    scope: dict[str, object] = {"__name__": "exported"}
    exec((tmp_path / "best" / "train.py").read_text(), scope)
    network = scope["Network"]()  # type: ignore[operator]
    network.load_state_dict(safetensors.torch.load_file(files[-1]))
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.eval()(x), model.eval()(x))


def test_weights_of_another_network_are_refused(findings: Findings, tmp_path: Path) -> None:
    other = SPACE.build(findings.winner(10.0).record.config, SHAPE, 7)
    weights = tmp_path / "other.safetensors"
    safetensors.torch.save_file(other.state_dict(), weights)
    with pytest.raises(ValueError, match=r"other.safetensors does not hold the weights of this"):
        export(findings, findings.winner(0.0), tmp_path / "best", 7, weights)
    assert not (tmp_path / "best").exists()


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_the_configuration_can_be_read_back(findings: Findings, tmp_path: Path, form: str) -> None:
    winner = findings.winner(0.1)
    export(findings, winner, tmp_path, 7, form=form)  # type: ignore[arg-type]
    text = (tmp_path / f"config.{form}").read_text()
    yaml = pytest.importorskip("yaml")
    read = json.loads(text) if form == "json" else yaml.safe_load(text)
    assert read["config"] == dict(winner.record.config)
    assert read["w_c"] == 0.1
    assert read["test_errors"] == winner.test_errors


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_is_written_as_it_is(
    findings: Findings, tmp_path: Path, schedule: str
) -> None:
    search = replace(findings.search, settings={"epochs": 2, "schedule": schedule})
    changed = replace(findings, search=search)
    export(changed, changed.winner(0.0), tmp_path, 7)
    scope: dict[str, object] = {"__name__": "exported"}
    exec((tmp_path / "train.py").read_text(), scope)
    function = SCHEDULES[schedule]  # type: ignore[index]
    written = scope[function.__name__]
    for step in range(40):
        assert written(step, 40) == function(step, 40)  # type: ignore[operator]


def test_a_data_set_known_by_name_is_loaded(tmp_path: Path) -> None:
    findings = made_up()
    search = replace(findings.search, data_options={"samples_per_class": 4})
    findings = replace(findings, search=search)
    export(findings, findings.winner(0.0), tmp_path, 7)
    scope: dict[str, object] = {"__name__": "exported"}
    exec((tmp_path / "train.py").read_text(), scope)
    x, y, x_test, y_test = scope["load_data"]("morse")  # type: ignore[operator]
    data = load("morse", samples_per_class=4)
    assert data.validation is not None
    assert len(x) == len(data.train) + len(data.validation) == len(y)
    assert torch.equal(x_test, data.test.x)
    assert torch.equal(y_test, data.test.y)

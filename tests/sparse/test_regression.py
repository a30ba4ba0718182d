"""Targets instead of classes: data, training, files, the command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sparse.small_data import clusters, waves
from sparse.small_runs import assert_same
from torch import nn

from dnc_sparse import compare
from dnc_sparse.cli import main
from dnc_sparse.data import DataSet, Split, join_validation, load, pad_features
from dnc_sparse.experiment import Task, Version
from dnc_sparse.training import FitConfig, evaluate, fit, relative_error

DATA = waves()
CONFIG = FitConfig(epochs=15, batch_size=20, learning_rate=0.01)


def network(seed: int = 0, targets: int = 2) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, targets))


def saved(path: Path, **changed: Any) -> Path:
    arrays = {
        "x_train": np.random.default_rng(0).random((30, 6)),
        "y_train": np.linspace(-1, 1, 30),
        "x_test": np.random.default_rng(1).random((10, 6)),
        "y_test": np.linspace(-1, 1, 10),
    }
    np.savez(path, **{**arrays, **changed})
    return path


def test_a_set_with_targets_knows_it() -> None:
    assert DATA.is_regression
    assert (DATA.n_classes, DATA.n_outputs) == (0, 2)
    assert repr(DATA) == (
        "DataSet(waves, 6 features, 2 targets, 200 train, 60 validation, 80 test)"
    )
    assert not clusters().is_regression
    assert clusters().n_outputs == 4
    assert pad_features(join_validation(DATA), 8).train.y.shape == (260, 2)


def test_fit_minimises_the_squared_error() -> None:
    model = network()
    history = fit(model, DATA, CONFIG, progress=False)
    last = history.epochs[-1]
    assert last.test_error is not None
    assert last.test_error < 0.3
    assert last.test_error == relative_error(model, DATA.test, CONFIG.batch_size)
    assert last.validation_error is not None
    assert last.validation_error < 0.3
    assert (last.train_accuracy, last.validation_accuracy, last.test_accuracy) == (None,) * 3
    assert last.loss < history.epochs[0].loss / 5
    with pytest.raises(ValueError, match=r"^the run has no test accuracy: regression has none; re"):
        _ = history.test_accuracy


def test_the_error_is_one_minus_r_squared() -> None:
    y = DATA.test.y.double()
    with torch.no_grad():
        output = network()(DATA.test.x).double()
    truth = (output - y).square().sum() / (y - y.mean(0)).square().sum()
    assert relative_error(network(), DATA.test, batch_size=7) == pytest.approx(float(truth))

    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return DATA.test.y.mean(0).expand(len(x), 2)

    assert relative_error(Mean(), DATA.test) == pytest.approx(1)


def test_each_task_has_its_own_figure() -> None:
    with pytest.raises(
        ValueError, match=r"^targets of a regression have no accuracy; use relative"
    ):
        evaluate(network(), DATA.test)
    with pytest.raises(
        ValueError, match=r"^classes have no squared error; use evaluate, the accur"
    ):
        relative_error(nn.Linear(12, 4), clusters().test)


def test_evaluation_gives_the_model_its_mode_back() -> None:
    model = network().train()
    relative_error(model, DATA.test)
    assert model.training


def test_a_regression_resumes(tmp_path: Path) -> None:
    whole, resumed = network(), network()
    fit(whole, DATA, CONFIG, progress=False)
    fit(network(), DATA, replace(CONFIG, epochs=6), run_dir=tmp_path, progress=False)
    fit(resumed, DATA, CONFIG, run_dir=tmp_path, resume=True, progress=False)
    assert_same(whole, resumed)


def test_the_progress_line_says_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    fit(network(), DATA, replace(CONFIG, epochs=1))
    line = r"epoch 1/1  squared error [\d.]+  test error [\d.]+ % of variance  [\d.]+ s\n"
    assert re.fullmatch(line, capsys.readouterr().err)
    fit(network(), DATA, replace(CONFIG, epochs=1), evaluate_test=False)
    line = r"epoch 1/1  squared error [\d.]+  validation error [\d.]+ % of variance  [\d.]+ s\n"
    assert re.fullmatch(line, capsys.readouterr().err)


def test_one_output_per_target() -> None:
    message = r"^the model maps one sample to \[1, 3\], but waves has 2 targets; give it 2 outputs$"
    with pytest.raises(ValueError, match=message):
        fit(network(targets=3), DATA, CONFIG, progress=False)


def test_a_custom_file_with_targets(tmp_path: Path) -> None:
    data = load(saved(tmp_path / "own.npz"))
    assert data.is_regression
    assert data.train.y.shape == (30, 1)
    assert data.train.y.dtype == torch.float32
    two = np.arange(60.0).reshape(30, 2) + 0.5
    data = load(saved(tmp_path / "own.npz", y_train=two, y_test=two[:10]))
    assert data.train.y.tolist() == two.tolist()


def test_images_with_channels(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 3, 2, 4), dtype=np.uint8)
    data = load(saved(tmp_path / "own.npz", x_train=x, x_test=x[:10]))
    assert data.image_shape == (3, 2, 4)
    assert torch.equal(data.train.x.reshape(30, 3, 2, 4), torch.from_numpy(x).float().div(255))
    with pytest.raises(ValueError, match=r"^image shape \(2, 3, 2, 2\) of 'own' must be \(height,"):
        replace(data, image_shape=(2, 3, 2, 2))


def split(y: torch.Tensor) -> Split:
    return Split(torch.rand(len(y), 4), y)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_classes": 3}, r"^'toy' has targets to predict, so n_classes must be 0, not 3$"),
        ({"test": split(torch.tensor([0, 1]))}, r"^test split of 'toy' has classes, train has ta"),
        ({"test": split(torch.rand(3, 2))}, r"^test split of 'toy' has 2 targets, train has 1$"),
        (
            {"test": split(torch.ones(3, 1))},
            r"^test targets of 'toy' are the same in all 3 samples; their error is measured by how",
        ),
    ],
)
def test_a_wrong_set_is_refused(changed: dict[str, Any], message: str) -> None:
    given = {
        "train": split(torch.rand(5, 1)),
        "test": split(torch.rand(3, 1)),
        "validation": None,
        "n_classes": 0,
    }
    with pytest.raises(ValueError, match=message):
        DataSet("toy", **{**given, **changed})


def test_classes_and_targets_do_not_mix() -> None:
    classes = split(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"^test split of 'toy' has targets, train has classes$"):
        DataSet("toy", classes, split(torch.rand(3, 1)), None, 2)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([[1.0], [torch.inf]]), r"^y\[1, 0\] is inf; every target must be finite$"),
        (torch.rand(3, 1), r"^x has 2 samples but y has 3 targets$"),
        (torch.rand(2, 1).double(), r"^y must be \[samples, targets\] torch.float32, got \[2, 1\]"),
        (
            torch.rand(2),
            r"^y must be \[samples\] torch.int64, got \[2\] torch.float32; targets of a",
        ),
    ],
)
def test_wrong_targets_are_refused(y: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Split(torch.rand(2, 4), y)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_train": np.zeros((30, 2, 2))}, r"y_train must be \[samples\] or \[samples, targets\]"),
        ({"y_test": np.full(10, 1e300)}, r"y\[0, 0\] is inf; every target must be finite$"),
        (
            {"y_test": np.arange(10)},
            r"y_train must be \[samples\] of integers.* every y is floatin",
        ),
    ],
)
def test_a_wrong_custom_file_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    path = saved(tmp_path / "own.npz", **changed)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {message}"):
        load(path)


def test_the_command_trains_and_reports_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = saved(tmp_path / "own.npz"), tmp_path / "out.json"
    options = ["--layers", "6,8,1", "--epochs", "2", "--seeds", "2", "--quiet", "--json", str(out)]
    with pytest.raises(SystemExit) as stop:
        main(["train", "--data", str(path), *options])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert re.search(r"seed 1: test error [\d.]+ %, ", shown)
    assert re.search(r"2 seeds: test error [\d.]+ ± [\d.]+ % \(mean, 95", shown)
    assert json.loads(out.read_text())["test_error"]["mean"] > 0


def test_compare_needs_classes(tmp_path: Path) -> None:
    task = Task(str(saved(tmp_path / "own.npz")), "paper")
    with pytest.raises(ValueError, match=r"^own is a regression and has no accuracies to compare"):
        compare.run(task, Version((6, 8, 1)), 0, torch.get_num_threads(), measure=False)

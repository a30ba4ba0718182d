"""The training loop: what it learns, that it repeats, what it refuses and shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sparse.small_runs import CONFIG, DATA, assert_same, network, train
from torch import nn

from dnc_sparse.data import Split
from dnc_sparse.recipes import RECIPES, paper_recipe, recipe
from dnc_sparse.training import (
    Epoch,
    FitConfig,
    StopTraining,
    evaluate,
    fit,
    make_optimizer,
)

# --- learning


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_fit_learns(optimizer: str) -> None:
    model = network()
    config = replace(CONFIG, optimizer=optimizer, momentum=0.9, epochs=10)
    history = train(model, config)
    assert [row.epoch for row in history.epochs] == list(range(1, 11))
    assert history.epochs[-1].loss < history.epochs[0].loss / 2
    assert history.test_accuracy > 0.9
    assert history.test_accuracy == evaluate(model, DATA.test)
    assert history.epochs[-1].validation_accuracy == evaluate(model, DATA.validation)  # type: ignore[arg-type]
    assert history.seconds_per_epoch > 0


def test_steps_are_those_of_a_plain_loop() -> None:
    """Adam with Keras' decay and L2 written out, over the whole set in order."""
    config = replace(CONFIG, shuffle=False, batch_size=64, epochs=2)
    model, expected = (nn.Linear(12, 4) for _ in range(2))
    expected.load_state_dict(model.state_dict())
    train(model, config)
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.01)
    step = 0
    for _ in range(2):
        for x, y in zip(DATA.train.x.split(64), DATA.train.y.split(64), strict=True):
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + 1e-3 * step)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(expected(x), y)
            (loss + 1e-3 * expected.weight.square().sum()).backward()
            optimizer.step()
            step += 1
    torch.testing.assert_close(model.weight, expected.weight)
    torch.testing.assert_close(model.bias, expected.bias)


def test_same_seed_same_weights_another_seed_others() -> None:
    one, two, other = network(), network(), network()
    train(one)
    torch.rand(5)
    train(two)
    train(other, replace(CONFIG, seed=4))
    assert_same(one, two)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_fit_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    train(network(), replace(CONFIG, epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_eval_every_always_includes_the_last_epoch() -> None:
    history = train(network(), replace(CONFIG, epochs=5, eval_every=2))
    seen = [row.epoch for row in history.epochs if row.test_accuracy is not None]
    assert seen == [2, 4, 5]


def test_l2_acts_on_kernels_only() -> None:
    groups = make_optimizer(network(), CONFIG).param_groups
    assert [group["weight_decay"] for group in groups] == [2 * CONFIG.l2, 0.0]
    assert [p.dim() for p in groups[0]["params"]] == [2, 2]
    assert [p.dim() for p in groups[1]["params"]] == [1, 1]


def test_frozen_parameters_stay() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    train(model)
    assert torch.equal(model[0].weight, before)


# --- watching a run


def test_on_epoch_sees_every_epoch() -> None:
    seen: list[Epoch] = []
    history = train(network(), replace(CONFIG, epochs=5, eval_every=2), on_epoch=seen.append)
    assert seen == history.epochs
    assert [row.epoch for row in seen if row.test_error is not None] == [2, 4, 5]
    for row in (seen[1], seen[3], seen[4]):
        assert row.validation_error == pytest.approx(1 - row.validation_accuracy)  # type: ignore[operator]
        assert row.test_error == pytest.approx(1 - row.test_accuracy)  # type: ignore[operator]


def stop_at(epoch: int) -> Callable[[Epoch], None]:
    def on_epoch(row: Epoch) -> None:
        if row.epoch == epoch:
            raise StopTraining

    return on_epoch


def test_a_run_can_be_stopped_and_continued(tmp_path: Path) -> None:
    whole, stopped = network(), network()
    expected = train(whole)
    history = train(stopped, on_epoch=stop_at(2), run_dir=tmp_path, checkpoint_every=9)
    assert [row.loss for row in history.epochs] == [row.loss for row in expected.epochs[:2]]
    assert history.test_accuracy == evaluate(stopped, DATA.test)
    assert (tmp_path / "weights.safetensors").exists()
    train(stopped, run_dir=tmp_path, resume=True)
    assert_same(whole, stopped)


def test_an_error_of_on_epoch_passes_through() -> None:
    def fail(row: Epoch) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match=r"^mine$"):
        train(network(), on_epoch=fail)


def test_the_test_set_is_left_alone_when_asked() -> None:
    test = Split(torch.full((3, 12), 7.0), torch.tensor([0, 1, 2]))
    data = replace(DATA, test=test)

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not bool((x == 7).any())
            y: torch.Tensor = self.inner(x)
            return y

    history = fit(Watch(), data, CONFIG, progress=False, evaluate_test=False)
    last = history.epochs[-1]
    assert (last.test_accuracy, last.test_error) == (None, None)
    assert last.validation_accuracy is not None
    with pytest.raises(
        ValueError, match=r"^the run has no test accuracy: it did not look at the t"
    ):
        _ = history.test_accuracy
    with pytest.raises(AssertionError):
        fit(Watch(), data, CONFIG, progress=False)


def test_a_run_without_its_test_is_tested_later(tmp_path: Path) -> None:
    train(network(), run_dir=tmp_path, evaluate_test=False)
    history = train(model := network(7), run_dir=tmp_path, resume=True)
    assert history.test_accuracy == evaluate(model, DATA.test)


# --- recipes


def test_paper_recipe_is_the_published_one() -> None:
    config = paper_recipe(8e-5).config
    assert config == FitConfig(
        epochs=50,
        batch_size=256,
        optimizer="adam",
        learning_rate=1e-3,
        betas=(0.9, 0.999),
        eps=1e-7,
        lr_decay=1e-5,
        l2=8e-5,
    )


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_initialises_from_the_seed(name: str) -> None:
    one, two, other = network(0), network(1), network(0)
    chosen = recipe(name)
    for model, seed in ((one, 5), (two, 5), (other, 6)):
        chosen.initialise(model, seed)
    assert_same(one, two)
    assert not torch.equal(one[0].weight, other[0].weight)
    assert torch.equal(one[0].bias, torch.full((16,), 0.1))


def test_unknown_recipe() -> None:
    with pytest.raises(ValueError, match=r"^unknown recipe 'soup'; known recipes: paper, morse$"):
        recipe("soup")


# --- what can go wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        ({"l2": -1e-5}, "l2 must be 0 or more, got -1e-05"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"seed": 1.5}, "seed must be an integer, got 1.5"),
        ({"epochs": 2.5}, "epochs must be an integer, got 2.5"),
        ({"batch_size": "64"}, "batch_size must be an integer, got '64'"),
        ({"eval_every": 1.0}, "eval_every must be an integer, got 1.0"),
        ({"betas": (0.9, 1.0)}, r"betas must lie in 0..1 (1 excluded), got (0.9, 1.0)"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; choose adam or sgd"),
    ],
)
def test_config_is_checked_when_built(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FitConfig(**change)  # type: ignore[arg-type]


def test_config_takes_integers_of_numpy() -> None:
    config = FitConfig(seed=np.int64(3))  # type: ignore[arg-type]
    assert config == FitConfig(seed=3)
    assert type(config.seed) is int


def test_model_must_have_one_output_per_class() -> None:
    message = (
        r"^the model maps one sample to \[1, 3\], but clusters has 4 classes; give it 4 outputs$"
    )
    with pytest.raises(ValueError, match=message):
        train(nn.Linear(12, 3))


def test_nothing_to_train() -> None:
    with pytest.raises(ValueError, match=r"^the model has no parameter to train; set requires_gr"):
        train(nn.Linear(12, 4).requires_grad_(False))


def test_diverging_loss_is_an_error() -> None:
    config = replace(CONFIG, optimizer="sgd", learning_rate=1e30)
    message = r"^the loss became (nan|inf) in epoch 1; lower the learning rate \(now 1e\+30\)$"
    with pytest.raises(RuntimeError, match=message):
        train(network(), config)


# --- what a person sees


def test_one_line_an_epoch_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    fit(network(), DATA, replace(CONFIG, epochs=2), title="tiny")
    shown = capsys.readouterr()
    line = r"tiny  epoch {}/2  loss [\d.]+  train [\d.]+ %  test [\d.]+ %  [\d.]+ s\n"
    assert re.fullmatch(line.format(1) + line.format(2), shown.err)
    assert not shown.out


def test_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    fit(network(), DATA, replace(CONFIG, epochs=2))
    assert "epoch 2/2" in capsys.readouterr().err


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    train(network(), replace(CONFIG, epochs=1))
    shown = capsys.readouterr()
    assert not shown.err
    assert not shown.out

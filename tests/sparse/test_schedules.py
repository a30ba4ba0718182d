"""Learning rates step by step, weight decay, and what both refuse."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from sparse.small_runs import CONFIG, assert_same, network, resume_with, train
from torch import nn

from dnc_sparse import checkpoint
from dnc_sparse.schedules import SCHEDULES, cosine, step_down
from dnc_sparse.training import FitConfig, make_optimizer

SMOOTH = replace(CONFIG, schedule="cosine", lr_decay=0.0)


def test_step_is_deep_n_cheaps() -> None:
    factors = [step_down(step, 8) for step in range(8)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.2, 0.2, 0.04, 0.04])


def test_cosine_rises_then_falls_to_nothing() -> None:
    factors = [cosine(step, 100) for step in range(100)]
    assert factors[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert factors[52] == pytest.approx((1 + math.cos(math.pi * 47 / 95)) / 2)
    assert all(now > after for now, after in pairwise(factors[5:]))
    assert 0 < factors[-1] < 1e-3


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 19, 20, 21, 1000])
def test_every_factor_is_a_share_and_one_is_the_whole(name: str, steps: int) -> None:
    factors = [SCHEDULES[name](step, steps) for step in range(steps)]  # type: ignore[index]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1


def test_fit_takes_the_rate_of_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam,
        "step",
        lambda self, *rest: (rates.append(self.param_groups[0]["lr"]), step(self, *rest))[1],
    )
    train(network(), SMOOTH)
    # 150 samples in batches of 32, 4 epochs
    assert rates == [0.01 * cosine(step, 20) for step in range(20)]


def test_weight_decay_is_torchs_and_twice_the_l2() -> None:
    config = replace(CONFIG, l2=0.0, weight_decay=2e-3)
    groups = make_optimizer(network(), config).param_groups
    assert [group["weight_decay"] for group in groups] == [2e-3, 0.0]
    assert [p.dim() for p in groups[1]["params"]] == [1, 1]
    one, other = network(), network()
    train(one, config)
    train(other, replace(CONFIG, l2=1e-3))
    assert_same(one, other)


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_a_schedule_resumes_bit_for_bit(tmp_path: Path, schedule: str) -> None:
    config = replace(SMOOTH, schedule=schedule)
    whole, resumed = network(), network()
    train(whole, config)

    class Killed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.left = network(), 12

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.left -= self.training
            if self.left < 0:
                raise ZeroDivisionError
            y: torch.Tensor = self.inner(x)
            return y

    with pytest.raises(ZeroDivisionError):
        train(Killed(), config, run_dir=tmp_path)
    wrapped = Killed()
    wrapped.inner, wrapped.left = resumed, 1000
    resume_with(tmp_path, wrapped, config)
    assert_same(whole, resumed)


def test_only_a_constant_rate_can_be_prolonged(tmp_path: Path) -> None:
    train(network(), SMOOTH, run_dir=tmp_path)
    message = rf"^{re.escape(str(tmp_path))}/checkpoint.pt was written with epochs 4, now 6; resume"
    with pytest.raises(ValueError, match=message):
        resume_with(tmp_path, network(), replace(SMOOTH, epochs=6))


def test_the_checkpoint_of_an_older_release_says_so(tmp_path: Path) -> None:
    train(network(), run_dir=tmp_path)
    path = tmp_path / "checkpoint.pt"
    record = checkpoint.read(path)
    for name in ("schedule", "weight_decay"):
        del record["settings"][name]
    checkpoint.write_atomic(path, checkpoint.pack(record))
    message = (
        rf"^{re.escape(str(path))} was written by an older release, which had no schedule, "
        r"weight_decay; finish the run with that release, or start in another folder$"
    )
    with pytest.raises(ValueError, match=message):
        resume_with(tmp_path, network(), CONFIG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "stairs"}, "unknown schedule 'stairs'; choose constant or step or cosine"),
        ({"weight_decay": -1e-5}, "weight_decay must be 0 or more, got -1e-05"),
        (
            {"l2": 1e-4, "weight_decay": 1e-3},
            "l2 0.0001 and weight_decay 0.001 say the same thing twice; give one "
            "(a weight_decay of 0.0002 is that l2)",
        ),
        (
            {"lr_decay": 1e-5, "schedule": "step"},
            "lr_decay 1e-05 needs the constant schedule, not 'step'; leave one out",
        ),
    ],
)
def test_what_a_config_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FitConfig(**change)  # type: ignore[arg-type]

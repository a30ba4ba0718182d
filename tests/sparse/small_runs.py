"""Short training runs on generated data, shared by tests of training and of resuming."""

from __future__ import annotations

import torch
from sparse.small_data import clusters
from torch import nn

from dnc_sparse.training import FitConfig, History, fit

DATA = clusters()
CONFIG = FitConfig(epochs=4, batch_size=32, learning_rate=0.01, lr_decay=1e-3, l2=1e-3, seed=3)


def network(seed: int = 0, hidden: int = 16) -> nn.Sequential:
    """A small net with dropout, so that its random draws are part of what must repeat."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(12, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 4)
        )


def train(model: nn.Module, config: FitConfig = CONFIG, **options: object) -> History:
    return fit(model, DATA, config, progress=False, **options)  # type: ignore[arg-type]


def assert_same(one: nn.Module, other: nn.Module) -> None:
    states = [model.state_dict() for model in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())

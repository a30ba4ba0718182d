"""The smallest space of networks, and one whose candidates go wrong in every way."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from sparse.small_data import clusters, waves
from torch import nn

from dnc_search.evaluation import Settings
from dnc_search.parameters import Config, Integer
from dnc_search.space import TRAINING_PRESETS, Bayesian, Shape, Space, Stage
from dnc_sparse import SparseMLP

CLASSES, NUMBERS = clusters(), waves()
SETTINGS = Settings(epochs=3)


@dataclass(frozen=True)
class TinySpace(Space):
    """One hidden layer of 1 to `most` neurons, at a density."""

    most: int = 16

    def stages(self, shape: Shape) -> tuple[Stage, ...]:  # type: ignore[override]
        return (Bayesian("network", (Integer("neurons", 1, self.most),), ()),)

    def build(self, config: Config, shape: Shape, seed: int) -> nn.Module:
        hidden = int(config["neurons"])
        layers = [nn.Linear(shape.n_features, hidden), nn.ReLU(), nn.Dropout(0.1)]
        return nn.Sequential(*layers, nn.Linear(hidden, shape.n_outputs))

    def largest(self, shape: Shape) -> Config:
        return config(self.most)


@dataclass(frozen=True)
class SparseSpace(TinySpace):
    """The same with a quarter of the edges."""

    def build(self, config: Config, shape: Shape, seed: int) -> nn.Module:
        sizes = (shape.n_features, int(config["neurons"]), shape.n_outputs)
        return SparseMLP(sizes, 0.25, seed=seed)


class Wrong(nn.Module):
    """A network that does something wrong when it is run in training mode."""

    def __init__(self, inner: nn.Module, wrong: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.inner, self.wrong = inner, wrong

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x)
        return self.wrong(y) if self.training else y


@dataclass(frozen=True)
class WrongSpace(TinySpace):
    """Networks that go wrong in training."""

    wrong: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.clone

    def build(self, config: Config, shape: Shape, seed: int) -> nn.Module:
        return Wrong(super().build(config, shape, seed), self.wrong)


def raising(error: BaseException) -> Callable[[torch.Tensor], torch.Tensor]:
    def wrong(y: torch.Tensor) -> torch.Tensor:
        raise error

    return wrong


def too_large(y: torch.Tensor) -> torch.Tensor:
    """Ask torch for more than any machine has."""
    return torch.empty(2 ** (8 * ctypes.sizeof(ctypes.c_void_p) - 10), dtype=torch.uint8)


def config(neurons: int = 8, **changed: float) -> Config:
    return {
        **TRAINING_PRESETS,
        "batch_size": 32,
        "learning_rate": 0.01,
        "neurons": neurons,
    } | changed


def measured(*names: str, **changed: object) -> Settings:
    return replace(SETTINGS, measures=names, **changed)  # type: ignore[arg-type]

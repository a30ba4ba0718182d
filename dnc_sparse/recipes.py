"""Named training recipes: settings and initialisation as published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from dnc_sparse.nn.init import he_normal_
from dnc_sparse.nn.linear import FanIn
from dnc_sparse.training import FitConfig


@dataclass(frozen=True)
class Recipe:
    """Settings of `fit` and how the model is initialised from a seed before it."""

    name: str
    config: FitConfig
    init_fan_in: FanIn

    def initialise(self, model: nn.Module, seed: int) -> None:
        """Draw the weights anew: He's normal with the recipe's fan-in, biases 0.1."""
        generator = torch.Generator().manual_seed(seed)
        he_normal_(model, fan_in=self.init_fan_in, generator=generator)


def paper_recipe(l2: float = 0.0) -> Recipe:
    """Return the recipe of the pre-defined sparsity papers.

    Adam with Keras' defaults and decay 1e-5, batch 256, 50 epochs, last-epoch accuracy, L2 on
    kernels, weights drawn for the dense fan-in even where edges are missing (Dey et al. 2019, arXiv
    1812.01164, and its public code; L2 1.1e-4 for the dense MNIST network, 8e-5 at half density).
    """
    config = FitConfig(epochs=50, batch_size=256, eps=1e-7, lr_decay=1e-5, l2=l2)
    return Recipe("paper", config, "dense")


def morse_recipe(l2: float = 0.0) -> Recipe:
    """Return the recipe for the Morse sets: Adam with Keras' defaults, batch 128, 30 epochs.

    Published for dense networks only (Dey, Chugg, Beerel 2018, arXiv 1807.04239); sparse ones start
    from weights drawn for the edges they have, which learns faster at low density.
    """
    config = FitConfig(epochs=30, batch_size=128, eps=1e-7, l2=l2)
    return Recipe("morse", config, "sparse")


RECIPES: dict[str, Callable[[float], Recipe]] = {"paper": paper_recipe, "morse": morse_recipe}


def recipe(name: str, l2: float = 0.0) -> Recipe:
    """Return the named recipe with this L2. Raises ValueError for an unknown name."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; known recipes: {', '.join(RECIPES)}")
    return RECIPES[name](l2)

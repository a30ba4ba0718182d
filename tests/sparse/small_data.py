"""A generated classification task small enough to train in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dnc_sparse.data import DataSet, Split


def clusters(
    n_features: int = 12, n_classes: int = 4, samples: int = 150, seed: int = 0
) -> DataSet:
    """Gaussian clouds around one centre per class."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(n_classes, n_features, generator=generator)

    def split(count: int) -> Split:
        y = torch.randint(n_classes, (count,), generator=generator)
        return Split(centres[y] + torch.randn(count, n_features, generator=generator), y)

    return DataSet("clusters", split(samples), split(60), split(40), n_classes)


def write_npz(path: Path) -> Path:
    """Write the clusters as a user's own data set and return the path."""
    data = clusters()
    parts = {"train": data.train, "test": data.test}
    arrays = {
        f"{letter}_{name}": getattr(s, letter) for name, s in parts.items() for letter in "xy"
    }
    np.savez(path, **{name: tensor.numpy() for name, tensor in arrays.items()})
    return path


def waves(n_features: int = 6, n_targets: int = 2, samples: int = 200, seed: int = 0) -> DataSet:
    """A regression: smooth functions of the features with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(n_features, n_targets, generator=generator)

    def split(count: int) -> Split:
        x = torch.randn(count, n_features, generator=generator)
        noise = 0.05 * torch.randn(count, n_targets, generator=generator)
        return Split(x, torch.tanh(x @ mix) + noise)

    return DataSet("waves", split(samples), split(80), split(60), 0)

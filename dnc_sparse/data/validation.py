"""Part of the training samples set aside to validate with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dnc_sparse.data.dataset import DataSet, Split

# a regression is stratified by this many quantiles of its first target
QUANTILES = 10


def split_validation(data: DataSet, fraction: float = 0.2, seed: int = 0) -> DataSet:
    """Return the data set with `fraction` of its training samples, shuffled, as validation split.

    Each class keeps its share of both parts within one sample, and at least one sample in each;
    in a regression so does each tenth of the samples in the order of their first target. The split
    depends on data, fraction and seed alone.

    Raises ValueError for a fraction outside (0, 1), data that have a validation split or only one
    class, and a class with a single sample.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, both excluded; got {fraction}")
    if data.validation is not None:
        raise ValueError(
            f"{data.name} has a validation split of {len(data.validation)} samples; use it, or "
            f"join_validation first"
        )
    groups = _groups(data)
    counts = _shares(np.array([len(group) for group in groups]), fraction)
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(data.train), bool)
    for group, count in zip(groups, counts, strict=True):
        chosen[rng.permutation(group)[:count]] = True
    parts = (rng.permutation(np.flatnonzero(chosen == held)) for held in (False, True))
    train, validation = (Split(data.train.x[rows], data.train.y[rows]) for rows in parts)
    return replace(data, train=train, validation=validation)


def _groups(data: DataSet) -> list[NDArray[np.int64]]:
    """Return the samples of each class, or of each quantile."""
    if data.is_regression:
        samples = len(data.train)
        if samples < 2:
            raise ValueError(f"{data.name} has {samples} training sample; 2 are needed to split")
        order = data.train.y[:, 0].argsort(stable=True).numpy()
        return np.array_split(order, min(QUANTILES, samples // 2))
    y = data.train.y.numpy()
    labels, sizes = np.unique(y, return_counts=True)
    if len(labels) == 1:
        raise ValueError(
            f"all {len(y)} training samples of {data.name} are of class {labels[0]}; "
            f"there is nothing to tell apart"
        )
    if sizes.min() == 1:
        single = ", ".join(map(str, labels[sizes == 1]))
        raise ValueError(
            f"{data.name} has a single training sample of class {single}, which cannot be in both "
            f"parts; add samples, or leave the class out"
        )
    return [np.flatnonzero(y == label) for label in labels]


def _shares(sizes: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Round each size * fraction up or down so that together they are right, 1..size - 1 each."""
    exact = sizes * fraction
    counts = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(counts.sum())
    largest_rest = np.argsort(counts - exact, kind="stable")[:missing]
    counts[largest_rest] += 1
    within: NDArray[np.int64] = np.clip(counts, 1, sizes - 1)
    return within

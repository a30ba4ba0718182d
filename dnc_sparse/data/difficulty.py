"""How hard a set is to classify, from class centroids and variances.

The four metrics of Dey, Chugg, Beerel, ICCCNT 2018, arXiv:1807.04239.

| name     | meaning                                                 | shape              |
|----------|---------------------------------------------------------|--------------------|
| centroid | mean of the class's samples                             | [classes, features] |
| variance | variance within the class, averaged over the features   | [classes]          |
| d        | Euclidean distance of two centroids                     | [classes, classes] |
| d_min    | distance to the nearest other centroid                  | [classes]          |
| d_1      | mean absolute difference of two centroids               | [classes, classes] |
| prior    | share of the samples                                    | [classes]          |
| Q        | tail of the standard normal distribution                |                    |
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from dnc_sparse.data.dataset import DataSet

Form = Literal["published_code", "formula"]
CLOSE = 0.05


class Difficulty(NamedTuple):
    """Lower and upper error bound L and U, mean spread over distance D, close pairs T."""

    L: float
    U: float
    D: float
    T: int


def morse_difficulty(data: DataSet, form: Form = "published_code") -> Difficulty:
    """Return L, U, D, T over all splits of a set.

    With s the standard deviation sqrt(variance), the formulas are

        L = sum_m prior(m) Q(d_min(m) / (2 s(m)))    D = mean_m s(m) / d_min(m)
        U = sum_m prior(m) sum_{j != m} Q(d(m, j) / (2 s(m)))
        T = number of ordered pairs with d_1 < 0.05

    The published figures follow the published code, which departs from them in three ways: it
    has the variance in the place of s; in U, the second-last class stands for every j; T counts
    unordered pairs. `form` chooses. Two classes of one code make d_min sampling noise, so compare
    L and D only between sets with equally many samples.

    Raises ValueError for an unknown form, and for a class without two samples that differ.
    """
    if form not in get_args(Form):
        raise ValueError(f"unknown form {form!r}; choose among {', '.join(get_args(Form))}")
    centroid, variance, prior = _statistics(data)
    d = torch.cdist(centroid, centroid, compute_mode="donot_use_mm_for_euclid_dist")
    d_1 = torch.cdist(centroid, centroid, p=1) / data.n_features
    others = ~torch.eye(data.n_classes, dtype=torch.bool)
    d_min = torch.where(others, d, torch.inf).amin(dim=1)
    published = form == "published_code"
    spread = variance if published else variance.sqrt()
    rivals = d[:, -2:-1].expand_as(d) if published else d
    tails = torch.where(others, _q(rivals / (2 * spread[:, None])), 0)
    close_pairs = int(((d_1 < CLOSE) & others).sum())
    return Difficulty(
        L=float((prior * _q(d_min / (2 * spread))).sum()),
        U=float((prior * tails.sum(dim=1)).sum()),
        D=float((spread / d_min).mean()),
        T=close_pairs // 2 if published else close_pairs,
    )


def _statistics(data: DataSet) -> tuple[Tensor, Tensor, Tensor]:
    """Centroid, variance and prior of every class, in float64."""
    centroids, variances, counts = [], [], []
    for label in range(data.n_classes):
        x = torch.cat([split.x[split.y == label] for split in data.splits.values()]).double()
        centroid = x.mean(dim=0)
        variance = (x - centroid).square().mean()
        # the variance of an empty class is nan
        if not bool(variance > 0):
            raise ValueError(
                f"class {label} of {data.name!r} has {len(x)} samples and no variance; "
                f"difficulty needs at least two samples that differ in every class"
            )
        centroids.append(centroid)
        variances.append(variance)
        counts.append(len(x))
    prior = torch.tensor(counts, dtype=torch.float64)
    return torch.stack(centroids), torch.stack(variances), prior / prior.sum()


def _q(value: Tensor) -> Tensor:
    tail: Tensor = torch.special.ndtr(-value)
    return tail

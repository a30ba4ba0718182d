"""What a data set is, valid once built.

| name    | meaning                              | shape                         |
|---------|--------------------------------------|-------------------------------|
| x       | input features of each sample        | [samples, n_features] float32 |
| y       | class of each sample, 0..n_classes-1 | [samples] int64               |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their classes: x [samples, features] float32, y [samples] int64.

    Raises ValueError for other shapes or dtypes, for counts that differ and for values that are
    not finite.
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        _check_tensor("x", self.x, torch.float32, "[samples, features]", 2)
        _check_tensor("y", self.y, torch.int64, "[samples]", 1)
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} samples but y has {len(self.y)} labels")
        finite = torch.isfinite(self.x)
        if not finite.all():
            row, column = torch.nonzero(~finite)[0].tolist()
            raise ValueError(
                f"x[{row}, {column}] is {self.x[row, column].item()}; every feature must be finite"
            )

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A named classification task with its splits.

    `class_names` is empty or names every class; `image_shape` is (height, width) where the features
    are the pixels of an image, row by row. Raises ValueError for an empty train or test split,
    splits of different widths, and labels outside 0..n_classes-1.
    """

    name: str
    train: Split
    test: Split
    validation: Split | None
    n_classes: int
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for part, split in self.splits.items():
            if not len(split):
                raise ValueError(f"{part} split of {self.name!r} has no samples")
            if split.x.shape[1] != self.n_features:
                raise ValueError(
                    f"{part} split of {self.name!r} has {split.x.shape[1]} features, "
                    f"train has {self.n_features}"
                )
            low, high = int(split.y.min()), int(split.y.max())
            if low < 0 or high >= self.n_classes:
                raise ValueError(
                    f"{part} labels of {self.name!r} run from {low} to {high}; "
                    f"{self.n_classes} classes need labels in 0..{self.n_classes - 1}"
                )
        if self.class_names and len(self.class_names) != self.n_classes:
            raise ValueError(
                f"{self.name!r} has {self.n_classes} classes but {len(self.class_names)} names"
            )
        if self.image_shape is not None and prod(self.image_shape) != self.n_features:
            raise ValueError(
                f"image shape {self.image_shape} of {self.name!r} makes {prod(self.image_shape)} "
                f"features, the samples have {self.n_features}"
            )

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that exist, by name: train, validation, test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def n_features(self) -> int:
        """Features of each sample."""
        return int(self.train.x.shape[1])

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(split)} {name}" for name, split in self.splits.items())
        return (
            f"DataSet({self.name}, {self.n_features} features, {self.n_classes} classes, {counts})"
        )


def join_validation(data: DataSet) -> DataSet:
    """Return the data set with its validation samples after the training ones, as training samples.

    Raises ValueError when there is no validation split.
    """
    if data.validation is None:
        raise ValueError(f"{data.name} has no validation split to train on; leave the option out")
    train, validation = data.train, data.validation
    joined = Split(torch.cat([train.x, validation.x]), torch.cat([train.y, validation.y]))
    return replace(data, train=joined, validation=None)


def pad_features(data: DataSet, n_features: int) -> DataSet:
    """Append features that are always zero, so that the count has useful divisors (784 -> 800).

    The padded set has no image shape. Raises ValueError for fewer features than there are.
    """
    extra = n_features - data.n_features
    if extra < 0:
        raise ValueError(
            f"{data.name!r} has {data.n_features} features and cannot be padded to {n_features}; "
            f"choose {data.n_features} or more"
        )
    if extra == 0:
        return data
    padded = {
        name: Split(torch.nn.functional.pad(split.x, (0, extra)), split.y)
        for name, split in data.splits.items()
    }
    return replace(
        data,
        train=padded["train"],
        test=padded["test"],
        validation=padded.get("validation"),
        image_shape=None,
    )


def _check_tensor(name: str, tensor: Tensor, dtype: torch.dtype, form: str, dim: int) -> None:
    if tensor.dim() != dim or tensor.dtype != dtype:
        raise ValueError(f"{name} must be {form} {dtype}, got {list(tensor.shape)} {tensor.dtype}")

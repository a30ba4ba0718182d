"""What a data set is, valid once built.

| name    | meaning                              | shape                         |
|---------|--------------------------------------|-------------------------------|
| x       | input features of each sample        | [samples, n_features] float32 |
| y       | class of each sample, 0..n_classes-1 | [samples] int64               |
|         | or, in regression, its targets       | [samples, targets] float32    |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from math import prod
from typing import TYPE_CHECKING

from dnc_sparse.data.tensors import dtype_name, first_not_finite

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and what to learn of them: x [samples, features] float32, y [samples] int64 classes
    or [samples, targets] float32.

    Raises ValueError for other shapes or dtypes, for counts that differ and for values that are
    not finite.
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        _check_tensor("x", self.x, "float32", "[samples, features]", 2)
        if self.is_regression:
            _check_tensor("y", self.y, "float32", "[samples, targets]", 2)
        else:
            other = "; targets of a regression are [samples, targets] torch.float32"
            _check_tensor("y", self.y, "int64", "[samples]", 1, other)
        if len(self.x) != len(self.y):
            what = "targets" if self.is_regression else "labels"
            raise ValueError(f"x has {len(self.x)} samples but y has {len(self.y)} {what}")
        _check_finite("x", self.x, "feature")
        if self.is_regression:
            _check_finite("y", self.y, "target")

    @property
    def is_regression(self) -> bool:
        """Whether y holds numbers to predict, not classes."""
        # one dimension of floating point is the commonest slip in labels, and refused as such
        return "float" in dtype_name(self.y) and self.y.ndim > 1

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A named task with its splits: classification, or regression where y holds numbers.

    `n_classes` is 0 in regression. `class_names` is empty or names every class; `image_shape` is
    (height, width) or (channels, height, width) where the features are the pixels of an image, row
    by row of each channel. Raises ValueError for an empty train or test split, splits of different
    widths or tasks, labels outside 0..n_classes-1, and targets that are all equal.
    """

    name: str
    train: Split
    test: Split
    validation: Split | None
    n_classes: int
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for part, split in self.splits.items():
            if not len(split):
                raise ValueError(f"{part} split of {self.name!r} has no samples")
            if split.x.shape[1] != self.n_features:
                raise ValueError(
                    f"{part} split of {self.name!r} has {split.x.shape[1]} features, "
                    f"train has {self.n_features}"
                )
            if self.is_regression:
                self._check_targets(part, split)
            else:
                self._check_labels(part, split)
        if self.class_names and len(self.class_names) != self.n_classes:
            raise ValueError(
                f"{self.name!r} has {self.n_classes} classes but {len(self.class_names)} names"
            )
        if self.image_shape is None:
            return
        if len(self.image_shape) not in (2, 3):
            raise ValueError(
                f"image shape {self.image_shape} of {self.name!r} must be (height, width) or "
                f"(channels, height, width)"
            )
        if prod(self.image_shape) != self.n_features:
            raise ValueError(
                f"image shape {self.image_shape} of {self.name!r} makes {prod(self.image_shape)} "
                f"features, the samples have {self.n_features}"
            )

    def _check_labels(self, part: str, split: Split) -> None:
        if split.is_regression:
            raise ValueError(f"{part} split of {self.name!r} has targets, train has classes")
        low, high = int(split.y.min()), int(split.y.max())
        if low < 0 or high >= self.n_classes:
            raise ValueError(
                f"{part} labels of {self.name!r} run from {low} to {high}; "
                f"{self.n_classes} classes need labels in 0..{self.n_classes - 1}"
            )

    def _check_targets(self, part: str, split: Split) -> None:
        if self.n_classes:
            raise ValueError(
                f"{self.name!r} has targets to predict, so n_classes must be 0, not "
                f"{self.n_classes}"
            )
        if not split.is_regression:
            raise ValueError(f"{part} split of {self.name!r} has classes, train has targets")
        if split.y.shape[1:] != self.train.y.shape[1:]:
            raise ValueError(
                f"{part} split of {self.name!r} has {split.y.shape[1]} targets, "
                f"train has {self.train.y.shape[1]}"
            )
        if bool((split.y == split.y[0]).all()):
            raise ValueError(
                f"{part} targets of {self.name!r} are the same in all {len(split)} samples; "
                f"their error is measured by how much they vary"
            )

    @property
    def is_regression(self) -> bool:
        """Whether numbers are to be predicted, not classes."""
        return self.train.is_regression

    @property
    def n_outputs(self) -> int:
        """Outputs of a model of this task: classes, or targets in regression."""
        return int(self.train.y.shape[1]) if self.is_regression else self.n_classes

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
        what = "targets" if self.is_regression else "classes"
        return (
            f"DataSet({self.name}, {self.n_features} features, {self.n_outputs} {what}, {counts})"
        )


def join_validation(data: DataSet) -> DataSet:
    """Return the data set with its validation samples after the training ones, as training samples.

    Raises ValueError when there is no validation split.
    """
    if data.validation is None:
        raise ValueError(f"{data.name} has no validation split to train on; leave the option out")
    # without torch there is nothing to train
    import torch

    train, validation = data.train, data.validation
    joined = Split(torch.cat([train.x, validation.x]), torch.cat([train.y, validation.y]))
    return replace(data, train=joined, validation=None)


def check_classes(data: DataSet) -> None:
    """Raise ValueError for a single class, and for classes that no training sample is of."""
    if data.is_regression:
        return
    taught = set(data.train.y.tolist())
    missing = data.n_classes - len(taught)
    if missing:
        few = list(islice((c for c in range(data.n_classes) if c not in taught), 3))
        more = ", ..." if missing > len(few) else ""
        raise ValueError(
            f"{data.name} has no training sample of {missing} of its {data.n_classes} classes: "
            f"{', '.join(map(str, few))}{more}; number the labels 0..{len(taught) - 1}"
        )
    if len(taught) == 1:
        raise ValueError(
            f"all {len(data.train)} training samples of {data.name} are of class 0, so every "
            f"network that always says so would have no error; give samples of two classes or more"
        )


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
    import torch

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


def _check_tensor(
    name: str, tensor: Tensor, dtype: str, form: str, dim: int, other: str = ""
) -> None:
    if tensor.ndim != dim or dtype_name(tensor) != dtype:
        raise ValueError(
            f"{name} must be {form} torch.{dtype}, got {list(tensor.shape)} {tensor.dtype}{other}"
        )


def _check_finite(name: str, tensor: Tensor, what: str) -> None:
    place = first_not_finite(tensor)
    if place is not None:
        row, column = place
        raise ValueError(
            f"{name}[{row}, {column}] is {tensor[row, column].item()}; every {what} must be finite"
        )

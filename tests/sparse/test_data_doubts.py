"""Data of one's own that can be read in two ways: the other one is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnc_sparse.data import load


def saved(folder: Path, x_shape: tuple[int, ...], y: Any) -> Path:
    path = folder / "own.npz"
    x = np.random.default_rng(0).random((len(y), *x_shape), dtype=np.float32)
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return path


@pytest.mark.parametrize(
    ("y", "count"),
    [(np.array([0.0, 1.0, 2.0, 1.0]), 3), (np.array([[3.0], [5.0], [3.0]], np.float32), 2)],
)
def test_classes_as_floats_are_told(tmp_path: Path, y: Any, count: int) -> None:
    path = saved(tmp_path, (6,), y)
    text = (
        f"^{re.escape(str(path))}: y is floating point, so this is a regression, but it holds only "
        f"{count} whole numbers; if they are classes, store y as integers, .samples.$"
    )
    with pytest.warns(UserWarning, match=text):
        assert load(path).is_regression


@pytest.mark.parametrize(
    "y", [[0.0, 1.5, 2.0], [-1.0, 1.0, 1.0], [float(value) for value in range(101)], [0, 1, 2]]
)
def test_targets_and_classes_are_taken_without_a_word(tmp_path: Path, y: list[float]) -> None:
    assert len(load(saved(tmp_path, (6,), np.array(y))).train) == len(y)


@pytest.mark.parametrize("shape", [(4, 4, 3), (32, 32, 3), (28, 28, 1), (5, 7, 4), (3, 3, 1)])
def test_channels_last_are_told(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = saved(tmp_path, shape, np.array([0, 1]))
    first, second, last = shape
    text = (
        f"^{re.escape(str(path))}: x_train is .samples, {first}, {second}, {last}., taken as "
        f"{first} channels of {second}x{last} pixels; if the {last} are channels, store "
        rf"x\.transpose\(0, 3, 1, 2\)$"
    )
    with pytest.warns(UserWarning, match=text):
        assert load(path).image_shape == shape


@pytest.mark.parametrize(
    "shape", [(3, 4, 4), (1, 28, 28), (3, 32, 4), (2, 5, 5), (4, 4), (3, 3, 3)]
)
def test_channels_first_are_taken_without_a_word(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert load(saved(tmp_path, shape, np.array([0, 1]))).image_shape == shape


def test_a_folder_is_no_archive(tmp_path: Path) -> None:
    folder = tmp_path / "own.npz"
    folder.mkdir()
    with pytest.raises(
        IsADirectoryError, match=rf"^{folder} is a folder; give the path of an \.npz file$"
    ):
        load(folder)

"""Read .npz archives: a user's own data set, and the checks every archive gets.

Keys of a custom set: x_train, y_train, x_test, y_test, and optionally x_val, y_val, class_names.
"""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnc_sparse.data.dataset import DataSet, Split
from dnc_sparse.data.tensors import tensor

if TYPE_CHECKING:
    from torch import Tensor

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("x_val", "y_val", "class_names")
# RuntimeError: damage that zipfile takes for encryption or an unknown compression
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
# more whole numbers than this are seldom classes
MOST_CLASSES = 100
# colours of an image: grey, RGB, RGB with transparency
CHANNELS = (1, 3, 4)
REWRITE = "write it again from numeric arrays with numpy.savez_compressed"


def custom(path: Path | str) -> DataSet:
    """Read a user's own data set from an .npz file.

    x_*: [samples, ...], flattened to [samples, features]; uint8 is scaled to [0, 1] by 1 / 255,
    floating point is taken as it is; [samples, height, width] and [samples, channels, height,
    width] are images. y_*: [samples] of integers from 0, or floating point [samples] or [samples,
    targets] in every split, which makes it a regression. Without `class_names` the number of
    classes is the largest label + 1. Warns of targets that look like classes, and of images that
    look as if their channels came last. Raises ValueError, naming the file and the key, for
    an unreadable archive, missing keys, other shapes or dtypes, and labels out of range.
    """
    arrays = read_npz(path, REQUIRED, OPTIONAL)
    if ("x_val" in arrays) != ("y_val" in arrays):
        raise ValueError(f"{path} has only one of x_val and y_val; give both or neither")
    try:
        data = _build(Path(path).stem, arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for doubt in filter(None, (_doubt_of_targets(data), _doubt_of_images(data))):
        warnings.warn(f"{path}: {doubt}", stacklevel=3)
    return data


def read_npz(
    path: Path | str, required: Collection[str], optional: Collection[str] | None = ()
) -> dict[str, NDArray[Any]]:
    """Return the named arrays of an .npz archive (all, with None), never unpickling anything.

    Raises FileNotFoundError without the file and ValueError for a file that is no archive, is
    damaged, holds Python objects or lacks a required key.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the path of an .npz file")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; give the path of an .npz file")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not an .npz archive, or is truncated: no zip directory in its "
            f"{Path(path).stat().st_size} bytes; {REWRITE}"
        )
    try:
        # numpy leaves a file it opened itself open when the zip directory is damaged
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            present = list(archive)
            named = present if optional is None else (*required, *optional)
            wanted = [key for key in named if key in present]
            arrays = {key: np.asarray(archive[key]) for key in wanted}
    except UNREADABLE as error:
        raise ValueError(f"{path} is damaged or not numeric: {error}; {REWRITE}") from error
    missing = [key for key in required if key not in arrays]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(present) or 'no arrays'}"
        )
    return arrays


def strings(array: NDArray[Any]) -> tuple[str, ...]:
    """Return the entries of an array of bytes or text as text."""
    return tuple(item.decode() if isinstance(item, bytes) else str(item) for item in array)


def _build(name: str, arrays: Mapping[str, NDArray[Any]]) -> DataSet:
    parts = [part for part in ("train", "val", "test") if f"x_{part}" in arrays]
    # one-hot or mistyped labels in one split only are no regression
    regression = all(np.issubdtype(arrays[f"y_{part}"].dtype, np.floating) for part in parts)
    targets = _targets if regression else _labels
    splits = {
        part: Split(
            _features(f"x_{part}", arrays[f"x_{part}"]), targets(f"y_{part}", arrays[f"y_{part}"])
        )
        for part in parts
    }
    class_names = strings(arrays["class_names"]) if "class_names" in arrays else ()
    n_classes = 0 if regression else len(class_names) or _largest_label(splits.values()) + 1
    shape = arrays["x_train"].shape[1:]
    return DataSet(
        name,
        splits["train"],
        splits["test"],
        splits.get("val"),
        n_classes,
        class_names,
        shape if len(shape) in (2, 3) else None,
    )


def _doubt_of_targets(data: DataSet) -> str | None:
    """Say that the targets of a regression may be classes; None when they cannot."""
    if not data.is_regression:
        return None
    found = set(data.train.y.flatten().tolist())
    if len(found) > MOST_CLASSES or any(value < 0 or value % 1 for value in found):
        return None
    return (
        f"y is floating point, so this is a regression, but it holds only {len(found)} whole "
        f"numbers; if they are classes, store y as integers, [samples]"
    )


def _doubt_of_images(data: DataSet) -> str | None:
    """Say that the last size of the images may be their channels; None when it hardly is."""
    if data.image_shape is None or len(data.image_shape) != 3:
        return None
    first, second, last = data.image_shape
    square = first == second != last
    if last not in CHANNELS or (first in CHANNELS and not square):
        return None
    return (
        f"x_train is [samples, {first}, {second}, {last}], taken as {first} channels of "
        f"{second}x{last} pixels; if the {last} are channels, store x.transpose(0, 3, 1, 2)"
    )


def _largest_label(splits: Iterable[Split]) -> int:
    return max((int(split.y.max()) for split in splits if len(split)), default=0)


def _features(key: str, array: NDArray[Any]) -> Tensor:
    if array.ndim < 2:
        raise ValueError(f"{key} must be [samples, features], got {list(array.shape)}")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{key} is {array.dtype}; give floating point, taken as it is, "
            f"or uint8, scaled to [0, 1]"
        )
    # a value too large for float32 becomes infinite, which Split refuses by its place
    with np.errstate(over="ignore"):
        flat = array.reshape(len(array), prod(array.shape[1:])).astype(np.float32)
    return tensor(flat / np.float32(255) if array.dtype == np.uint8 else flat)


def _labels(key: str, array: NDArray[Any]) -> Tensor:
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{key} must be [samples] of integers, got {list(array.shape)} {array.dtype}; "
            f"one-hot labels become numbers by argmax(axis=1); "
            f"in a regression every y is floating point"
        )
    return tensor(array.astype(np.int64))


def _targets(key: str, array: NDArray[Any]) -> Tensor:
    if array.ndim not in (1, 2):
        raise ValueError(f"{key} must be [samples] or [samples, targets], got {list(array.shape)}")
    # as with features, Split refuses by its place what is too large
    with np.errstate(over="ignore"):
        return tensor(array.reshape(len(array), -1).astype(np.float32))

"""What holds a data set's numbers: tensors, or plain arrays where torch is not installed.

The simulator of machines (`dnc_hw`) takes either, so that it needs no torch; training does.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from dnc_sparse.extras import is_installed

if TYPE_CHECKING:
    from torch import Tensor


def tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor on the array's memory; without torch the array itself."""
    found: Any = _torch().from_numpy(array) if _has_torch() else array
    return cast("Tensor", found)


def dtype_name(values: Tensor) -> str:
    """Return the dtype's name, such as float32."""
    return str(values.dtype).removeprefix("torch.")


def first_not_finite(values: Tensor) -> tuple[int, int] | None:
    """Return where the first entry of a matrix is that is infinite or NaN; None without one."""
    if isinstance(values, np.ndarray):
        finite = np.isfinite(values)
    else:
        finite = _torch().isfinite(values).cpu().numpy()
    if finite.all():
        return None
    row, column = np.argwhere(~finite)[0]
    return int(row), int(column)


@cache
def _has_torch() -> bool:
    return is_installed("torch")


def _torch() -> Any:
    return import_module("torch")

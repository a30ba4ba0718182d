"""The arguments with which a backend's functions are called: tensors as in `dnc_sparse.ops`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dnc_sparse.patterns import Pattern


def calls(
    pattern: Pattern,
    x: Tensor,
    grad_y: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    relu: bool = False,
) -> dict[str, tuple[Any, ...]]:
    """Return each function's arguments, by its name, as a layer would give them."""
    return {
        "forward": (x, weight, bias, pattern, relu),
        "grad_input": (grad_y, weight, pattern),
        "grad_weight": (grad_y, x, pattern),
        "backward": (grad_y, x, weight, pattern, bias is not None),
    }

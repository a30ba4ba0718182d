"""Whether tensors fit a pattern and each other, and what to say where they do not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dnc_sparse.patterns import Pattern

_STRIDED = torch.strided


def check(
    pattern: Pattern, tensors: dict[str, Tensor | None], groups: tuple[Any, ...] = ()
) -> None:
    """Compare shapes, dtypes and devices; those of the first tensor set the rule.

    `groups` is what stands before each shape of `dnc_sparse.ops`: (), or the number of junctions
    that an operator computes at once.
    """
    first_name, first = next(iter(tensors.items()))
    assert first is not None
    dtype, device, shape = first.dtype, first.device, first.shape
    if not dtype.is_floating_point:
        raise TypeError(f"{first_name} must be floating point, got {dtype}")
    if groups:
        shapes = _grouped(pattern, shape[1] if len(shape) > 1 else None, groups)
    else:
        shapes = _shapes(pattern, shape[0] if shape else None)
    for name, tensor in tensors.items():
        if tensor is not None and not (
            tensor.shape == shapes[name]
            and tensor.layout is _STRIDED
            and (tensor is first or (tensor.dtype is dtype and tensor.device == device))
        ):
            raise misfit(pattern, name, tensor, first_name, first, groups)


def _shapes(pattern: Pattern, batch: Any) -> dict[str, tuple[Any, ...]]:
    return {
        "x": (batch, pattern.n_in),
        "grad_y": (batch, pattern.n_out),
        "weight": pattern.weight_shape,
        "bias": (pattern.n_out,),
    }


def _grouped(pattern: Pattern, batch: Any, groups: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    return {name: (*groups, *shape) for name, shape in _shapes(pattern, batch).items()}


def misfit(
    pattern: Pattern,
    name: str,
    tensor: Tensor,
    first_name: str,
    first: Tensor,
    groups: tuple[Any, ...] = (),
) -> Exception:
    """Say what is wrong with a tensor that `check` refuses beside the first one."""
    shape = _grouped(pattern, "batch", groups)[name]
    free = shape.index("batch") if "batch" in shape else None
    if tensor.dim() != len(shape) or any(
        got != wanted
        for place, (got, wanted) in enumerate(zip(tensor.shape, shape, strict=True))
        if place != free
    ):
        wanted = ", ".join(map(str, shape))
        return ValueError(f"{name} must be [{wanted}] for {pattern!r}, got {list(tensor.shape)}")
    if tensor.layout != torch.strided:
        return TypeError(f"{name} must be an ordinary tensor, got {tensor.layout}; to_dense() it")
    if tensor.dtype != first.dtype:
        return TypeError(
            f"{name} is {tensor.dtype} but {first_name} is {first.dtype}; "
            f"convert one, or run under torch.autocast"
        )
    if tensor.device != first.device:
        return RuntimeError(
            f"{name} is on {tensor.device} but {first_name} is on {first.device}; "
            f"move both to one device"
        )
    here = len(groups)
    return ValueError(f"x has batch {first.shape[here]} but {name} has batch {tensor.shape[here]}")

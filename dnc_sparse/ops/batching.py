"""What `torch.vmap` makes of the operators: one call, never one per sample.

Where weights are shared, the mapped size becomes more samples. Where each has its own, or a
gradient of its own, operators take the size in front of every tensor (`dnc_sparse.ops.operators`).
A vmap inside another one has done so already, so a size may be in front of what comes here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dnc_sparse.ops.operators import LIBRARY, backward, forward, grad_input, grad_weight

Dim = int | None
Mapped = tuple[Tensor, Dim]


def _forward(
    info: Any,
    in_dims: tuple[Dim, ...],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    pattern: str,
    relu: bool = False,
) -> Mapped:
    x_dim, weight_dim, bias_dim = in_dims[:3]
    size = info.batch_size
    if weight_dim is not None:
        return _each(
            size,
            in_dims[:3],
            (x, weight, bias),
            (2, 4, 1),
            lambda *tensors: forward(*tensors, pattern, relu),
        )
    if bias is None or bias_dim is None:
        return _more_samples(x, x_dim, lambda rows: forward(rows, weight, bias, pattern, relu))
    # one product cannot add a bias for each
    if x_dim is None:
        y = forward(x, weight, None, pattern).unsqueeze(0)
    else:
        rows, dim = _more_samples(x, x_dim, lambda rows: forward(rows, weight, None, pattern))
        y = _front(rows, dim, size)
    y = y + _front(bias, bias_dim, size).unsqueeze(-2)
    return y.relu() if relu else y, 0


def _grad_input(
    info: Any, in_dims: tuple[Dim, ...], grad_y: Tensor, weight: Tensor, pattern: str
) -> Mapped:
    grad_y_dim, weight_dim = in_dims[:2]
    if weight_dim is None:
        return _more_samples(grad_y, grad_y_dim, lambda rows: grad_input(rows, weight, pattern))
    return _each(
        info.batch_size,
        (grad_y_dim, weight_dim),
        (grad_y, weight),
        (2, 4),
        lambda *tensors: grad_input(*tensors, pattern),
    )


def _grad_weight(
    info: Any, in_dims: tuple[Dim, ...], grad_y: Tensor, x: Tensor, pattern: str
) -> Mapped:
    return _each(
        info.batch_size,
        in_dims[:2],
        (grad_y, x),
        (2, 2),
        lambda *tensors: grad_weight(*tensors, pattern),
    )


def _backward(
    info: Any,
    in_dims: tuple[Dim, ...],
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    pattern: str,
    bias: bool,
) -> tuple[tuple[Tensor, ...], tuple[Dim, ...]]:
    grad_y_dim, x_dim, weight_dim = in_dims[:3]
    if grad_y_dim is None and weight_dim is None:
        grad_x: Mapped = grad_input(grad_y, weight, pattern), None
    else:
        grad_x = _grad_input(info, (grad_y_dim, weight_dim), grad_y, weight, pattern)
    if grad_y_dim is None and x_dim is None:
        grad: Mapped = grad_weight(grad_y, x, pattern), None
    else:
        grad = _grad_weight(info, (grad_y_dim, x_dim), grad_y, x, pattern)
    grad_bias: Mapped = x.new_empty(0), None
    if bias and grad_y_dim is None:
        grad_bias = grad_y.sum(-2), None
    elif bias:
        grad_bias = _front(grad_y, grad_y_dim, info.batch_size).sum(-2), 0
    results = grad_x, grad, grad_bias
    return tuple(r for r, _ in results), tuple(d for _, d in results)


def _more_samples(rows: Tensor, dim: Dim, run: Callable[[Tensor], Tensor]) -> Mapped:
    """Run with the mapped size `dim` of [..., samples, neurons] as more samples."""
    assert dim is not None
    rows = rows.movedim(dim, -3)
    sizes = rows.shape[-3:-1]
    return torch.unflatten(run(rows.flatten(-3, -2)), -2, sizes), rows.dim() - 3


def _each(
    size: int,
    dims: tuple[Dim, ...],
    tensors: tuple[Tensor | None, ...],
    ranks: tuple[int, ...],
    run: Callable[..., Tensor],
) -> Mapped:
    """Run with the mapped size in front of all tensors, whose ranks are these without any."""
    fronts: list[Tensor | None] = []
    outer = False
    for tensor, dim, rank in zip(tensors, dims, ranks, strict=True):
        front = None if tensor is None else _front(tensor, dim, size)
        # the size that another vmap has put in front
        outer = outer or (front is not None and front.dim() > rank + 1)
        fronts.append(front)
    if not outer:
        return run(*fronts), 0
    sizes = next(front.shape[:2] for front in fronts if front is not None)
    result = run(*(None if front is None else front.flatten(0, 1) for front in fronts))
    return torch.unflatten(result, 0, sizes), 0


def _front(tensor: Tensor, dim: Dim, size: int) -> Tensor:
    """Return the tensor with the mapped size first, repeated in place where it is not mapped."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


for _operator, _rule in (
    (forward, _forward),
    (grad_input, _grad_input),
    (grad_weight, _grad_weight),
    (backward, _backward),
):
    torch.library.register_vmap(_operator, _rule, lib=LIBRARY)

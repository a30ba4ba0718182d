"""Junctions of bfloat16 on a processor's matrix unit (AMX), without a dense matrix.

The planner's third choice. One bit per pair of neurons, kept with the pattern, tells where edges
are; weights are expanded by it to tiles that stay in a core's caches, and gradients compressed.
Sums are float32, in an order that does not depend on the number of threads. As in dense arithmetic,
an infinity or a NaN reaches all neurons of the other side, and subnormal numbers count as zero.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from dnc_sparse.backends.compiled import masks, packed, plain
from dnc_sparse.patterns import Pattern


@cache
def unavailable(
    dtype: torch.dtype | None = None, block: tuple[int, int] | None = None
) -> str | None:
    """Why these kernels cannot run (here, or on these); None when they can."""
    if dtype not in (None, torch.bfloat16):
        return f"AMX multiplies torch.bfloat16, not {dtype}"
    if block is not None and not _compiled().Masks.serves(*block):
        bo, bi = block
        return f"blocks of {bo}x{bi} straddle masks of 32 inputs; choose a divisor of 32 for {bi}"
    reason: str | None = _compiled().amx_unavailable()
    return reason


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias, negative ones as zero with `relu`: [batch, n_out]."""
    x, weight = plain(x), packed(weight)
    bias = None if bias is None else packed(bias)
    y = x.new_empty(x.shape[0], pattern.n_out)
    masks(pattern).forward(
        *_matrix(x),
        weight.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        relu,
        y.data_ptr(),
        x.shape[0],
        torch.get_num_threads(),
    )
    return y


def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return grad_y W: [batch, n_in]."""
    grad_y, weight = plain(grad_y), packed(weight)
    grad_x = grad_y.new_empty(grad_y.shape[0], pattern.n_in)
    masks(pattern).grad_input(
        *_matrix(grad_y),
        weight.data_ptr(),
        grad_x.data_ptr(),
        grad_y.shape[0],
        torch.get_num_threads(),
    )
    return grad_x


def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return each edge's share of grad_y^T x, zero in empty slots: [rows, slots, bo, bi]."""
    grad_y, x = plain(grad_y), plain(x)
    grad = x.new_empty(pattern.weight_shape)
    masks(pattern).grad_weight(
        *_matrix(grad_y), *_matrix(x), grad.data_ptr(), x.shape[0], torch.get_num_threads()
    )
    return grad


def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients in x, in weight and, if asked, in bias."""
    return (
        grad_input(grad_y, weight, pattern),
        grad_weight(grad_y, x, pattern),
        grad_y.sum(0) if bias else None,
    )


def _matrix(tensor: Tensor) -> tuple[int, int, int]:
    return tensor.data_ptr(), *tensor.stride()  # type: ignore[return-value]


@cache
def _compiled() -> ModuleType:
    return import_module("dnc_sparse._cpu")

"""A junction by dense arithmetic: weights written into a matrix, gradients read out of one.

The planner's other choice. Each call writes the weights into a new [n_out, n_in] matrix, or
computes one and keeps the edges' entries, so it needs the memory of a dense layer for that long;
`backward` does both in the same memory, as fresh pages cost a good part of the scatter.
Products are torch's: their order of summation, and what it depends on, are those of `nn.Linear`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from dnc_sparse.backends.compiled import masks, packed, starts
from dnc_sparse.patterns import Pattern

# density from which moving all cells by masks is faster than moving each edge
MASKED_DENSITY = 1 / 4


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias, negative ones as zero with `relu`: [batch, n_out]."""
    y = torch.nn.functional.linear(x, _scattered(weight, pattern), bias)
    return y.relu_() if relu else y


def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return grad_y W: [batch, n_in]."""
    return grad_y @ _scattered(weight, pattern)


def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return each edge's share of grad_y^T x, zero in empty slots: [rows, slots, bo, bi]."""
    return _gathered((grad_y.mT @ x).contiguous(), pattern)


def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients in x, weight and, if asked, bias, with one dense matrix for both."""
    dense = _scattered(weight, pattern)
    grad_x = grad_y @ dense
    torch.mm(grad_y.mT, x, out=dense)
    return grad_x, _gathered(dense, pattern), grad_y.sum(0) if bias else None


def _scattered(weight: Tensor, pattern: Pattern) -> Tensor:
    """Write the edges' weights into a dense matrix, ignoring empty slots: [n_out, n_in]."""
    weight = packed(weight)
    dense = weight.new_empty(pattern.n_out, pattern.n_in)
    moved = weight.data_ptr(), dense.data_ptr(), torch.get_num_threads()
    if _masked(pattern, weight):
        masks(pattern).scatter(weight.element_size(), *moved)
    else:
        _compiled().scatter(*_places(pattern, weight), *moved)
    return dense


def _gathered(dense: Tensor, pattern: Pattern) -> Tensor:
    """Read the edges' entries of a contiguous matrix, zero in empty slots: as `grad_weight`."""
    grad = dense.new_empty(pattern.weight_shape)
    moved = dense.data_ptr(), grad.data_ptr(), torch.get_num_threads()
    if _masked(pattern, dense):
        masks(pattern).gather(dense.element_size(), *moved)
    else:
        _compiled().gather(*_places(pattern, dense), *moved)
    return grad


def _masked(pattern: Pattern, tensor: Tensor) -> bool:
    """Whether numbers are moved by masks: where weights of a neuron lie side by side."""
    return (
        pattern.block[0] == 1
        and pattern.density >= MASKED_DENSITY
        and tensor.element_size() in (2, 4)
        and _compiled().vbmi2_unavailable() is None
    )


def _places(pattern: Pattern, tensor: Tensor):  # type: ignore[no-untyped-def]
    places = pattern.sources, starts(pattern), pattern.columns, *pattern.block
    return *places, tensor.element_size()


@cache
def _compiled() -> ModuleType:
    return import_module("dnc_sparse._cpu")

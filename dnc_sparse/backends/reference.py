"""The oracle: a junction in plain torch, for any device and floating dtype.

It writes the weights into a dense [n_out, n_in] buffer and multiplies that, so it is as fast as
dense arithmetic, never faster, and its memory is the dense layer's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dnc_sparse.patterns import Pattern


def unavailable(
    device: str | None = None,
    dtype: torch.dtype | None = None,
    block: tuple[int, int] | None = None,
) -> str | None:
    """Why this backend cannot run (here, or on these); None when it can. Any block will do."""
    if dtype is not None and not dtype.is_floating_point:
        return f"weights and activations must be floating point, got {dtype}"
    return None


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias, negative ones as zero with `relu`: [batch, n_out]."""
    y = torch.nn.functional.linear(x, dense_weight(weight, pattern), bias)
    return y.relu_() if relu else y


def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return grad_y W: [batch, n_in]."""
    return grad_y @ dense_weight(weight, pattern)


def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return each edge's share of grad_y^T x, zero in empty slots: [rows, slots, bo, bi]."""
    return edge_weight(grad_y.mT @ x, pattern)


def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients in x, weight and, if asked, bias."""
    grads = grad_input(grad_y, weight, pattern), grad_weight(grad_y, x, pattern)
    return *grads, grad_y.sum(0) if bias else None


def edge_weight(dense: Tensor, pattern: Pattern) -> Tensor:
    """Read the edges' entries of an [n_out, n_in] matrix, zero in empty slots."""
    bo, bi = pattern.block
    blocks = dense.reshape(pattern.rows, bo, pattern.columns, bi).transpose(1, 2)
    rows, slots, columns = _edges(pattern, dense.device)
    weight = dense.new_zeros(pattern.weight_shape)
    weight.view(-1, bo, bi)[slots] = blocks[rows, columns]
    return weight


def dense_weight(weight: Tensor, pattern: Pattern) -> Tensor:
    """Write the edges' weights into a dense matrix, ignoring empty slots: [n_out, n_in]."""
    bo, bi = pattern.block
    rows, slots, columns = _edges(pattern, weight.device)
    dense = weight.new_zeros(pattern.rows, pattern.columns, bo, bi)
    dense[rows, columns] = weight.reshape(-1, bo, bi)[slots]
    return dense.transpose(1, 2).reshape(pattern.n_out, pattern.n_in)


def error_bound(truth: Tensor, size: Tensor, dtype: torch.dtype) -> Tensor:
    """Return how far a result in `dtype` may be from the truth, element by element.

    `truth` is this backend's result in float64 and `size` the same of the absolute inputs. Sums are
    kept in float32 (float64 for float64) in any order, and rounded once. Numbers below the smallest
    normal one are as far apart as there.
    """
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    kept = torch.finfo(dtype)
    return 4 * torch.finfo(sums).eps * size + kept.eps * truth.abs().clamp_min(kept.smallest_normal)


def _edges(pattern: Pattern, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Row, flat slot and column of every edge block, as index tensors on the device."""

    def build() -> tuple[Tensor, Tensor, Tensor]:
        rows, slots, columns = (
            torch.from_numpy(numbers.astype(np.int64)).to(device)
            for numbers in (pattern.edge_rows, pattern.edge_slots, pattern.indices)
        )
        return rows, slots, columns

    # a GPU would have to be waited for at each call; on the CPU, three int64 per block, kept for as
    # long as the pattern, would outweigh its weights
    return build() if device.type == "cpu" else pattern.plan(("reference", str(device)), build)

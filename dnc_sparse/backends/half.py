"""float16 on the CPU, by the float32 kernels: operands are widened, results rounded once.

Few processors compute in float16, and sums are kept in float32 in any case, so nothing is lost but
the time to convert. The reference, which would be the next choice, is many times slower.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_sparse.backends import cpu
from dnc_sparse.patterns import Pattern

# what is computed in, for the dtype that is asked for
COMPUTED = {torch.float16: torch.float32}


def unavailable(
    device: str | None = None,
    dtype: torch.dtype | None = None,
    block: tuple[int, int] | None = None,
) -> str | None:
    """Why this backend cannot run (here, or on these); None when it can. Any block will do."""
    if dtype is not None and dtype not in COMPUTED:
        return f"it computes torch.float16, not {dtype}"
    return cpu.unavailable(device)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias, negative ones as zero with `relu`: [batch, n_out]."""
    wide = None if bias is None else bias.float()
    return cpu.forward(x.float(), weight.float(), wide, pattern, relu).to(x.dtype)


def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return grad_y W: [batch, n_in]."""
    return cpu.grad_input(grad_y.float(), weight.float(), pattern).to(grad_y.dtype)


def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return each edge's share of grad_y^T x, zero in empty slots: [rows, slots, bo, bi]."""
    return cpu.grad_weight(grad_y.float(), x.float(), pattern).to(x.dtype)


def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients in x, weight and, if asked, bias."""
    grads = cpu.backward(grad_y.float(), x.float(), weight.float(), pattern, bias)
    grad_x, grad, grad_bias = (None if g is None else g.to(x.dtype) for g in grads)
    assert grad_x is not None
    assert grad is not None
    return grad_x, grad, grad_bias

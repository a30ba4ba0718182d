"""Dense layers to compare with: torch's own, oneDNN's float32, bfloat16, and a masked one."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from dnc_sparse.bench.candidate import Candidate
from dnc_sparse.bench.problem import Problem
from dnc_sparse.nn import SparseLinear

ALL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Linear(Candidate):
    """`nn.Linear`, which in float32 on x86 is MKL's matrix product."""

    name = "nn.Linear"
    dtypes: ClassVar[tuple[torch.dtype, ...]] = ALL

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        self.linear = layer.to_dense()
        self.weight = self.linear.weight
        self.bias = self.linear.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y

    def grad_input(self, grad_y: Tensor) -> Tensor:
        return grad_y @ self.weight

    def grad_weight(self, grad_y: Tensor, x: Tensor) -> Tensor:
        return grad_y.mT @ x


class Bfloat16Linear(Linear):
    """`nn.Linear` in bfloat16, beside float32 problems."""

    name = "nn.Linear bfloat16"
    computes_in = torch.bfloat16

    @classmethod
    def _refuses(cls, problem: Problem) -> str | None:
        if problem.dtype == cls.computes_in:
            return "nn.Linear itself is in bfloat16 here"
        return None


class MaskedLinear(Linear):
    """A dense weight times a mask in each forward pass: what pruning tools do."""

    name = "masked dense"

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        self.mask = torch.from_numpy(layer.pattern.mask()).to(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self.weight * self.mask, self.bias)

    def grad_input(self, grad_y: Tensor) -> Tensor:
        return grad_y @ (self.weight * self.mask)

    def grad_weight(self, grad_y: Tensor, x: Tensor) -> Tensor:
        return grad_y.mT @ x * self.mask


class OneDnnLinear(Linear):
    """The dense layer with all three products done by oneDNN, the strong yardstick in float32.

    torch's default product in float32 is MKL's, which on some processors reaches half the rate; the
    compiler calls this operator instead.
    """

    name = "oneDNN dense"
    dtypes = (torch.float32, torch.bfloat16)

    @classmethod
    def _refuses(cls, problem: Problem) -> str | None:
        return onednn_unavailable(problem.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return onednn_linear(x, self.weight, self.bias)

    def grad_input(self, grad_y: Tensor) -> Tensor:
        return _grad_input(grad_y, self.weight)

    def grad_weight(self, grad_y: Tensor, x: Tensor) -> Tensor:
        return _grad_weight(grad_y, x)


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x weight^T + bias by oneDNN, with gradients: [n, n_out] of [n, n_in]."""
    if not torch.is_grad_enabled():
        return onednn_product(x, weight, bias)
    y: Tensor = _OneDnn.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return y


class _OneDnn(torch.autograd.Function):
    """oneDNN's linear operator with gradients, which torch does not give it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn_product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        (grad_y,) = grads
        x, weight = ctx.saved_tensors
        # the first layer of a network needs none
        grad_x = _grad_input(grad_y, weight) if ctx.needs_input_grad[0] else None
        return grad_x, _grad_weight(grad_y, x), grad_y.sum(0)


def onednn_unavailable(dtype: torch.dtype = torch.float32) -> str | None:
    """Why oneDNN's linear operator cannot run here in a dtype; None when it can."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this torch was built without oneDNN"
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return f"torch {torch.__version__} has no operator mkldnn::_linear_pointwise"
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "this processor lacks what oneDNN needs for bfloat16 (AVX-512)"
    return None


def onednn_product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return left right^T + bias, by oneDNN: [m, n] of [m, k], [n, k] and [n]."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return product


def _grad_input(grad_y: Tensor, weight: Tensor) -> Tensor:
    return onednn_product(grad_y, weight.mT)


def _grad_weight(grad_y: Tensor, x: Tensor) -> Tensor:
    # a contiguous left operand saves a quarter of the time of two transposed ones
    return onednn_product(grad_y.mT.contiguous(), x.mT)

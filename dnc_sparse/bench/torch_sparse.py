"""torch's own sparse matrices as layers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dnc_sparse.bench.candidate import Candidate
from dnc_sparse.bench.problem import Problem
from dnc_sparse.nn import SparseLinear


class Csr(Candidate):
    """A CSR weight. Its own dX uses a matrix transposed beforehand, which flatters it."""

    name = "torch.sparse CSR"

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        dense = layer.to_dense().weight.detach()
        with beta_is_known():
            self.weight = dense.to_sparse_csr().requires_grad_()
            self.transposed = dense.mT.to_sparse_csr()

    def forward(self, x: Tensor) -> Tensor:
        # a product from the left is 4.5 times faster than F.linear with a CSR weight
        y: Tensor = torch.sparse.mm(self.weight, x.mT).mT + self.bias
        return y

    def grad_input(self, grad_y: Tensor) -> Tensor:
        grad_x: Tensor = torch.sparse.mm(self.transposed, grad_y.mT).mT
        return grad_x

    def grad_weight(self, grad_y: Tensor, x: Tensor) -> Tensor:
        grad: Tensor = torch.sparse.sampled_addmm(self.weight, grad_y.mT, x, beta=0)
        return grad


_NO_BACKWARD = "torch has no gradients of BSR products"
HALVES = (torch.bfloat16, torch.float16)


class Bsr(Candidate):
    """A BSR weight, in the blocks of the pattern."""

    name = "torch.sparse BSR"
    dtypes = (torch.float32, torch.float64, *HALVES)
    lacks = dict.fromkeys(("step", "grad_input", "grad_weight"), _NO_BACKWARD)

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        with beta_is_known():
            self.weight = layer.to_dense().weight.detach().to_sparse_bsr(layer.pattern.block)

    @classmethod
    def _refuses(cls, problem: Problem) -> str | None:
        if problem.pattern.block == (1, 1):
            return "the pattern has no blocks"
        if problem.device == "cpu" and problem.dtype in HALVES:
            return "on the CPU it computes in float32 and float64"
        return None

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            # the way to torch's Triton kernels
            return torch.nn.functional.linear(x, self.weight, self.bias)
        y: Tensor = torch.sparse.mm(self.weight, x.mT).mT + self.bias
        return y


@contextmanager
def beta_is_known() -> Iterator[None]:
    """Keep torch from announcing, on first use, that its compressed matrices are beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield

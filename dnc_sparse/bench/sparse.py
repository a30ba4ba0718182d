"""The layer this library is about, as a candidate among the others."""

from __future__ import annotations

import torch
from torch import Tensor

from dnc_sparse import ops
from dnc_sparse.bench.candidate import Candidate
from dnc_sparse.nn import SparseLinear


class Ours(Candidate):
    """`SparseLinear`, batch-major tensors in and out."""

    name = "SparseLinear"
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        assert layer.bias is not None
        self.layer = layer
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y

    def grad_input(self, grad_y: Tensor) -> Tensor:
        return ops.grad_input(grad_y, self.weight, self.pattern)

    def grad_weight(self, grad_y: Tensor, x: Tensor) -> Tensor:
        return ops.grad_weight(grad_y, x, self.pattern)

    def edge_weight(self, grad: Tensor) -> Tensor:
        return grad

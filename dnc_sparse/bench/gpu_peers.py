"""What else a CUDA device offers: stk, blksprs, 2:4, a gather and batched products."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import Tensor

from dnc_sparse.backends import reference
from dnc_sparse.bench.candidate import Candidate
from dnc_sparse.bench.problem import Problem
from dnc_sparse.nn import SparseLinear

HALVES = (torch.bfloat16, torch.float16)
ONLY_STEPS = dict.fromkeys(
    ("grad_input", "grad_weight"), "its gradients come from autograd, in a step"
)


def _needs_cuda(problem: Problem) -> str | None:
    return None if problem.device == "cuda" else "it computes on CUDA devices"


class GatherBmm(Candidate):
    """What users can write themselves: gather each block row's inputs, one batched product.

    Needs the same fan_in everywhere, and memory for the gathered activations.
    """

    name = "gather + bmm"
    dtypes: ClassVar = (torch.float32, *HALVES)
    lacks: ClassVar = ONLY_STEPS

    @classmethod
    def _refuses(cls, problem: Problem) -> str | None:
        if not problem.pattern.is_full:
            return "its outputs must all have the same fan_in"
        if problem.pattern.block == (1, 1):
            return "the pattern has no blocks"
        return None

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        pattern = layer.pattern
        bo, bi = pattern.block
        # an input's gradient is added up in the dtype over the block rows that read it
        self.roundings = 1 + pattern.fan_out // bo
        sources = torch.from_numpy(pattern.sources.copy()).long()
        inputs = sources[:, :, None] * bi + torch.arange(bi)
        self.inputs = inputs.reshape(-1).to(layer.weight.device)
        # [rows, fan_in, bo]
        panels = layer.weight.detach().permute(0, 1, 3, 2).flatten(1, 2)
        self.weight = panels.contiguous().requires_grad_()

    def forward(self, x: Tensor) -> Tensor:
        rows, fan_in, _ = self.weight.shape
        gathered = x.index_select(1, self.inputs).view(len(x), rows, fan_in).transpose(0, 1)
        product = torch.baddbmm(self.bias.view(rows, 1, -1), gathered, self.weight)
        return product.transpose(0, 1).reshape(len(x), -1)

    def edge_weight(self, grad: Tensor) -> Tensor:
        rows, slots, bo, bi = self.pattern.weight_shape
        return grad.view(rows, slots, bi, bo).transpose(2, 3)


class TwoFour(Candidate):
    """torch's 2:4 semi-structured weight: half of a dense layer's products at best."""

    name = "torch 2:4"
    dtypes: ClassVar = HALVES
    lacks: ClassVar = dict.fromkeys(
        ("step", "grad_input", "grad_weight"), "only its forward pass takes a fixed pattern"
    )

    @classmethod
    def _refuses(cls, problem: Problem) -> str | None:
        return _needs_cuda(problem)

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        dense = torch.randn(
            layer.out_features,
            layer.in_features,
            device=layer.weight.device,
            dtype=layer.weight.dtype,
        )
        kept = torch.tensor([True, True, False, False], device=dense.device)
        self.masked = dense * kept.repeat(layer.in_features // 4)
        self.weight = torch.sparse.to_sparse_semi_structured(self.masked)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self.weight, self.bias)

    def in_slots(self, operation: str, results: list[Tensor]) -> list[Tensor] | None:
        # another pattern than the problem's, so the oracle has nothing to say
        return None


class Stk(Candidate):
    """stk's block-sparse product (MegaBlocks), blocks of 128, the best trainable peer."""

    name = "stk"
    dtypes: ClassVar = HALVES
    lacks: ClassVar = ONLY_STEPS
    roundings = 2

    @classmethod
    def _refuses(cls, problem: Problem) -> str | None:
        if find_spec("stk") is None:
            return "stk is not installed: pip install --no-build-isolation stanford-stk==0.7.1"
        if problem.pattern.block != (128, 128):
            return "it has only blocks of 128"
        return _needs_cuda(problem)

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        self.stk = import_module("stk")
        # stk multiplies dense by sparse, so W^T is what it holds: [n_in, n_out]
        dense = reference.dense_weight(layer.weight.detach(), layer.pattern).mT.contiguous()
        matrix = self.stk.ops.to_sparse(dense, blocking=128)
        self.matrix: Any = matrix
        self.weight = matrix.data.detach().requires_grad_()

    def forward(self, x: Tensor) -> Tensor:
        m = self.matrix
        matrix = self.stk.Matrix(
            *(m.size(), self.weight, m.row_indices, m.column_indices, m.offsets),
            *(m.column_indices_t, m.offsets_t, m.block_offsets_t),
        )
        y: Tensor = self.stk.ops.dds(x, matrix)
        return y + self.bias

    def edge_weight(self, grad: Tensor) -> Tensor:
        m = self.matrix
        dense = self.stk.ops.to_dense(
            self.stk.Matrix(m.size(), grad, m.row_indices, m.column_indices, m.offsets)
        )
        return reference.edge_weight(dense.mT, self.pattern)


class Blksprs(Candidate):
    """blksprs, the maintained trainable block-sparse package; a dense operand counts as sparse."""

    name = "blksprs"
    dtypes: ClassVar = (torch.float32, *HALVES)
    lacks: ClassVar = ONLY_STEPS
    roundings = 2

    @classmethod
    def _refuses(cls, problem: Problem) -> str | None:
        if find_spec("blksprs") is None:
            return "blksprs is not installed: pip install blksprs==2.5"
        bo, bi = problem.pattern.block
        if bo != bi or bo < 16:
            return "it has square blocks from 16 on"
        if problem.batch % bo:
            return "it needs a batch of whole blocks"
        return _needs_cuda(problem)

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        self.ops = import_module("blksprs").ops
        self.side = layer.pattern.block[0]
        edges = torch.from_numpy(layer.pattern.mask()[:: self.side, :: self.side].T.copy())
        self.layout = edges[None].to(layer.weight.device)
        dense = reference.dense_weight(layer.weight.detach(), layer.pattern).mT.contiguous()
        kept = self.ops.to_sparse(dense[None], self.layout, self.side)
        self.weight = torch.Tensor(kept).detach().clone().requires_grad_()
        self.caches: dict[str, dict[str, Any]] = {"x": {}, "product": {}, "y": {}}

    def forward(self, x: Tensor) -> Tensor:
        rows = len(x) // self.side
        all_x, all_y = (
            torch.ones(1, rows, columns, dtype=torch.bool, device=x.device)
            for columns in self.layout.shape[1:]
        )
        blocks = self.ops.to_sparse(x[None], all_x, self.side, layout_cache=self.caches["x"])
        product = self.ops.matmul(
            *(blocks, all_x, self.weight, self.layout, all_y, self.side),
            layout_cache=self.caches["product"],
        )
        y = self.ops.to_dense(product, all_y, self.side, layout_cache=self.caches["y"])
        return torch.Tensor(y)[0] + self.bias

    def edge_weight(self, grad: Tensor) -> Tensor:
        dense = self.ops.to_dense(grad, self.layout, self.side)
        return reference.edge_weight(torch.Tensor(dense)[0].mT, self.pattern)

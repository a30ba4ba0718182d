"""Other libraries' layers: scipy, SparseProp, SparseLab, SRigL's condensed form."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from dnc_sparse.bench.candidate import Candidate
from dnc_sparse.bench.problem import Problem
from dnc_sparse.bench.torch_sparse import beta_is_known
from dnc_sparse.extras import is_installed
from dnc_sparse.nn import SparseLinear
from dnc_sparse.patterns import Pattern

MIB = 2**20
MAX_GATHER_MIB = 256


class Scipy(Candidate):
    """scipy's CSR matrix, on the tensors' own memory. dX uses a matrix transposed beforehand."""

    name = "scipy CSR"
    lacks: ClassVar = {
        "step": "scipy has no gradients",
        "grad_weight": "scipy has no product sampled at a pattern",
    }

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        self.matrix = sparse.csr_array(layer.to_dense().weight.detach().numpy())
        self.transposed = self.matrix.T.tocsr()

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.matrix @ x.numpy().T).mT + self.bias

    def grad_input(self, grad_y: Tensor) -> Tensor:
        return torch.from_numpy(self.transposed @ grad_y.numpy().T).mT


_FUSED = "SparseProp fuses both gradients in one pass"


class SparseProp(Candidate):
    """SparseProp's module (Nikdan et al. 2023), the best peer that trains."""

    name = "SparseProp"
    dtypes = (torch.float32,)
    lacks: ClassVar = {"grad_input": _FUSED, "grad_weight": _FUSED}

    @classmethod
    def _refuses(cls, problem: Problem) -> str | None:
        if not is_installed("sparseprop"):
            return "sparseprop is not installed: make peers, or see docs/benchmarks.md"
        return None

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        from sparseprop.modules.linear import SparseLinear as Module

        self.module = Module.from_dense(layer.to_dense())
        self.weight, self.bias = self.module.W_val, self.module.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return y

    def edge_weight(self, grad: Tensor) -> Tensor:
        rows, columns = (table.numpy() for table in self.module.W_idx)
        shape = (self.pattern.n_out, self.pattern.n_in)
        dense = sparse.csr_array((grad.numpy(), columns, rows), shape).toarray()
        return super().edge_weight(torch.from_numpy(dense))


_IN_BACKWARD = "SparseLab computes both gradients in its backward pass"


class SparseLab(Candidate):
    """SparseLab's layer: rows with room to grow, for training whose pattern changes."""

    name = "SparseLab"
    dtypes = (torch.float32,)
    lacks: ClassVar = {"grad_input": _IN_BACKWARD, "grad_weight": _IN_BACKWARD}

    @classmethod
    def _refuses(cls, problem: Problem) -> str | None:
        if not is_installed("sparselab"):
            return "sparselab is not installed: pip install --no-deps sparselab==0.2.2"
        return None

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        import sparselab

        weight = layer.to_dense().weight.detach()
        # it keeps transposed matrices by `id`, which a new matrix may have from one that is gone
        sparselab.ops._clear_transpose_cache()
        with beta_is_known():
            self.matrix = sparselab.PaddedCSR.from_dense(weight)
        # the constructor draws a pattern of its own
        self.module = sparselab.SparseLinear(self.pattern.n_in, self.pattern.n_out)
        self.module._csr = self.matrix
        self.module._values = nn.Parameter(torch.from_numpy(np.asarray(self.matrix.values)))
        self.module.bias = self.bias = nn.Parameter(self.bias.detach())
        self.weight = self.module._values

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return y

    def edge_weight(self, grad: Tensor) -> Tensor:
        # each row has room after its entries
        starts, counts = (np.asarray(part) for part in (self.matrix.row_start, self.matrix.row_nnz))
        rows = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
        slots = np.repeat(starts[: len(counts)], counts) + within
        columns = np.asarray(self.matrix.col_indices)[slots]
        dense = torch.zeros(self.pattern.n_out, self.pattern.n_in)
        dense[rows, columns] = grad[slots]
        return super().edge_weight(dense)


_INFERENCE_ONLY = "SRigL trains a masked dense layer; the condensed form is for inference"


class Gather(Candidate):
    """SRigL's condensed form (Lasby et al. 2023): gather the inputs of each output, multiply, sum.

    It needs the same fan_in everywhere, and memory for batch x edges numbers.
    """

    name = "SRigL gather"
    lacks = dict.fromkeys(("step", "grad_input", "grad_weight"), _INFERENCE_ONLY)

    @classmethod
    def _refuses(cls, problem: Problem) -> str | None:
        pattern = problem.pattern
        if not pattern.is_full:
            return "its outputs must all have the same fan_in"
        gathered = problem.batch * pattern.n_edges * problem.dtype.itemsize / MIB
        if gathered > MAX_GATHER_MIB:
            return f"it would gather {gathered:,.0f} MiB; more than {MAX_GATHER_MIB} is not tried"
        return None

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        self.index = torch.from_numpy(_inputs_of_outputs(layer.pattern))
        self.weight = layer.to_dense().weight.detach().gather(1, self.index)

    def forward(self, x: Tensor) -> Tensor:
        return _condensed(x, self.index, self.weight, self.bias)


class CompiledGather(Gather):
    """The condensed form through torch.compile, which fuses the three steps."""

    name = "SRigL gather, compiled"

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__(layer)
        self.compiled = torch.compile(_condensed, dynamic=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.compiled(x, self.index, self.weight, self.bias)


def _condensed(x: Tensor, index: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (x[:, index] * weight).sum(-1) + bias


def _inputs_of_outputs(pattern: Pattern) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the inputs of each output in ascending order: [n_out, fan_in]."""
    bo, bi = pattern.block
    inputs = pattern.sources[:, :, None].astype(np.int64) * bi + np.arange(bi)
    return inputs.reshape(pattern.rows, -1).repeat(bo, axis=0)

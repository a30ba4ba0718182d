"""Which layers can be timed, by the short names the command line takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from dnc_sparse.bench.candidate import Candidate
from dnc_sparse.bench.dense import Bfloat16Linear, Linear, MaskedLinear, OneDnnLinear
from dnc_sparse.bench.gpu_peers import Blksprs, GatherBmm, Stk, TwoFour
from dnc_sparse.bench.peers import CompiledGather, Gather, Scipy, SparseLab, SparseProp
from dnc_sparse.bench.problem import Problem
from dnc_sparse.bench.sparse import Ours
from dnc_sparse.bench.torch_sparse import Bsr, Csr

CANDIDATES: dict[str, type[Candidate]] = {
    "linear": Linear,
    "sparse": Ours,
    "onednn": OneDnnLinear,
    "bfloat16": Bfloat16Linear,
    "masked": MaskedLinear,
    "csr": Csr,
    "bsr": Bsr,
    "scipy": Scipy,
    "sparseprop": SparseProp,
    "sparselab": SparseLab,
    "gather": Gather,
    "gather-compiled": CompiledGather,
    "gather-bmm": GatherBmm,
    "two-four": TwoFour,
    "stk": Stk,
    "blksprs": Blksprs,
}


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError, naming the known ones, for the name of no candidate."""
    for name in names:
        if name not in CANDIDATES:
            raise ValueError(f"unknown candidate {name!r}; known ones: {', '.join(CANDIDATES)}")


class Bench:
    """Builds each candidate of one problem once, and hands out operations that were checked."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._own: dict[torch.dtype, Problem] = {problem.dtype: problem}
        self._built: dict[str, Candidate] = {}

    def unavailable(self, name: str, operation: str) -> str | None:
        """Why a candidate cannot do an operation here; None when it can."""
        return CANDIDATES[name].unavailable(self.problem, operation)

    def operation(self, name: str, operation: str) -> Callable[[], list[Tensor]]:
        """Return a candidate's operation, after its results were compared with the oracle.

        Raises AssertionError when they are off by more than rounding.
        """
        kind = CANDIDATES[name]
        dtype = kind.computes_in or self.problem.dtype
        if dtype not in self._own:
            self._own[dtype] = replace(self.problem, dtype=dtype)
        problem = self._own[dtype]
        if name not in self._built:
            self._built[name] = kind(problem.layer)
        candidate = self._built[name]
        run = candidate.operation(operation, problem.x, problem.grad_y)
        results = candidate.in_slots(operation, run())
        if results is not None:
            problem.check(candidate.name, operation, results, candidate.roundings)
        return run

"""What every layer that is timed has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from dnc_sparse.backends import reference
from dnc_sparse.bench.problem import OPERATIONS, Problem
from dnc_sparse.nn import SparseLinear


class Candidate(ABC):
    """A layer to time, the way a user would write it, with a sparse layer's weights.

    `lacks` says of each operation that the layer does not offer why not. A candidate that only
    computes in one dtype, whatever the problem's, says so in `computes_in`, and one that rounds a
    result more than once (the product, then the sum with the bias) in `roundings`.
    """

    name: ClassVar[str]
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64)
    computes_in: ClassVar[torch.dtype | None] = None
    lacks: ClassVar[Mapping[str, str]] = {}
    roundings: int = 1

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: SparseLinear) -> None:
        self.pattern = layer.pattern
        assert layer.bias is not None
        self.bias = layer.bias.detach().clone().requires_grad_()

    @classmethod
    def unavailable(cls, problem: Problem, operation: str) -> str | None:
        """Why this layer cannot do an operation on a problem here; None when it can.

        Raises ValueError for an unknown operation.
        """
        check_operation(operation)
        if operation in cls.lacks:
            return cls.lacks[operation]
        if problem.dtype not in cls.dtypes:
            known = ", ".join(str(dtype).removeprefix("torch.") for dtype in cls.dtypes)
            return f"it computes in {known}, not in {str(problem.dtype).removeprefix('torch.')}"
        return cls._refuses(problem)

    @classmethod
    def _refuses(cls, problem: Problem) -> str | None:
        """Why this layer cannot be built for a problem here; None when it can."""
        return None

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return y: [batch, n_out]; torch can differentiate it unless `lacks` tells of a step."""

    def grad_input(self, grad_y: Tensor) -> Tensor:
        """Return the gradient in x: [batch, n_in]."""
        raise NotImplementedError

    def grad_weight(self, grad_y: Tensor, x: Tensor) -> Tensor:
        """Return the gradient of the weight, in the layer's own form."""
        raise NotImplementedError

    def edge_weight(self, grad: Tensor) -> Tensor:
        """Read the edges' entries, in the pattern's slots, from a gradient of the weight."""
        return reference.edge_weight(grad.to_dense(), self.pattern)

    def operation(self, name: str, x: Tensor, grad_y: Tensor) -> Callable[[], list[Tensor]]:
        """Return a function that does the operation and returns its results (`RESULTS`).

        A forward pass is without gradients; a step is forward and all gradients.

        Raises ValueError for an unknown operation.
        """
        check_operation(name)
        if name == "step":
            return self._step(x.clone().requires_grad_(), grad_y)

        def plain() -> list[Tensor]:
            with torch.no_grad():
                if name == "forward":
                    return [self.forward(x)]
                if name == "grad_input":
                    return [self.grad_input(grad_y)]
                return [self.grad_weight(grad_y, x)]

        return plain

    def in_slots(self, operation: str, results: list[Tensor]) -> list[Tensor] | None:
        """Return an operation's results, the gradient of the weight in the pattern's slots.

        None where the candidate cannot compute this pattern, but one that is like it.
        """
        at = {"step": 2, "grad_weight": 0}.get(operation)
        return [self.edge_weight(r) if i == at else r for i, r in enumerate(results)]

    def _step(self, x: Tensor, grad_y: Tensor) -> Callable[[], list[Tensor]]:
        inputs = [x, self.weight, self.bias]

        def step() -> list[Tensor]:
            for tensor in inputs:
                tensor.grad = None
            y = self.forward(x)
            torch.autograd.backward(y, grad_y)
            return [y, *(tensor.grad for tensor in inputs if tensor.grad is not None)]

        return step


def check_operation(name: str) -> None:
    """Raise ValueError, naming the known ones, for an unknown operation."""
    if name not in OPERATIONS:
        raise ValueError(f"unknown operation {name!r}; known ones: {', '.join(OPERATIONS)}")

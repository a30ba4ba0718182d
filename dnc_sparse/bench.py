"""Time one sparse junction against dense and against torch's own sparse matrices.

Everything is timed in one run, in interleaved rounds, and reported as the median and its ratio to
`nn.Linear`. Every candidate's results are checked against the oracle before a clock starts.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dnc_sparse.backends import reference
from dnc_sparse.nn import SparseLinear
from dnc_sparse.patterns import Pattern

OPERATIONS = ("forward", "step")


@dataclass(frozen=True)
class Timing:
    """Median seconds of one candidate in one operation, and its ratio to dense in the same run."""

    candidate: str
    operation: str
    seconds: float
    ratio_to_dense: float


@dataclass(frozen=True)
class Candidate:
    """A layer to time, the way a user would write it.

    `edge_weight` reads the edges' entries, in the pattern's slots, from a gradient of the weight.
    """

    name: str
    layer: Callable[[Tensor], Tensor]
    weight: Tensor
    bias: Tensor
    edge_weight: Callable[[Tensor], Tensor]

    def operation(self, name: str, x: Tensor, grad_y: Tensor) -> Callable[[], list[Tensor]]:
        """Return the forward pass without gradients, or a step: forward and all gradients.

        Called, it returns y, and in a step also the gradients of x, weight and bias.
        """
        if name not in OPERATIONS:
            raise ValueError(f"unknown operation {name!r}; known ones: {', '.join(OPERATIONS)}")
        if name == "forward":

            def forward() -> list[Tensor]:
                with torch.no_grad():
                    return [self.layer(x)]

            return forward
        inputs = [x.clone().requires_grad_(), self.weight, self.bias]

        def step() -> list[Tensor]:
            for tensor in inputs:
                tensor.grad = None
            y = self.layer(inputs[0])
            torch.autograd.backward(y, grad_y)
            return [y, *(tensor.grad for tensor in inputs if tensor.grad is not None)]

        return step


def candidates(pattern: Pattern, dtype: torch.dtype = torch.float32) -> list[Candidate]:
    """Return `nn.Linear`, the sparse layer and torch's CSR matrix, all with the same weights.

    CSR is left out where torch has no kernels for it: bfloat16 and float16.
    """
    sparse = SparseLinear(pattern.n_in, pattern.n_out, pattern=pattern, dtype=dtype)
    dense = sparse.to_dense()

    def from_dense(grad: Tensor) -> Tensor:
        return reference.edge_weight(grad.to_dense(), pattern)

    assert sparse.bias is not None
    result = [
        Candidate("nn.Linear", dense, dense.weight, dense.bias, from_dense),
        Candidate("SparseLinear", sparse, sparse.weight, sparse.bias, lambda grad: grad),
    ]
    if dtype in (torch.float32, torch.float64):
        with warnings.catch_warnings():
            # torch announces on first use that CSR support is beta
            warnings.simplefilter("ignore", UserWarning)
            weight = dense.weight.detach().to_sparse_csr().requires_grad_()
        bias = dense.bias.detach().clone().requires_grad_()

        def csr(x: Tensor) -> Tensor:
            # a product from the left is 4.5 times faster than F.linear with a CSR weight
            y: Tensor = torch.sparse.mm(weight, x.mT).mT + bias
            return y

        result.append(Candidate("torch.sparse CSR", csr, weight, bias, from_dense))
    return result


def interleaved(functions: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median seconds of each function over `rounds` in which all run in turn.

    Two untimed rounds come first. Raises ValueError for fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"timing needs at least 1 round, got {rounds}")
    seconds: list[list[float]] = [[] for _ in functions]
    for index in range(rounds + 2):
        for own, function in zip(seconds, functions, strict=True):
            start = time.perf_counter()
            function()
            if index >= 2:
                own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in seconds]


def measure(
    pattern: Pattern, batch: int, dtype: torch.dtype = torch.float32, rounds: int = 30
) -> list[Timing]:
    """Time every candidate in every operation on `batch` samples with torch's thread count.

    Raises AssertionError when a candidate's result is off the oracle's by more than rounding.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, pattern.n_in, generator=generator).to(dtype)
    grad_y = torch.randn(batch, pattern.n_out, generator=generator).to(dtype)
    timings = []
    found = candidates(pattern, dtype)
    truths, bounds = _oracle(pattern, x, grad_y, found[1].weight, found[1].bias)
    for name in OPERATIONS:
        runs = [candidate.operation(name, x, grad_y) for candidate in found]
        for candidate, run in zip(found, runs, strict=True):
            _check(candidate, name, run(), truths, bounds)
        medians = interleaved(list(runs), rounds)
        timings += [
            Timing(candidate.name, name, seconds, seconds / medians[0])
            for candidate, seconds in zip(found, medians, strict=True)
        ]
    return timings


def _check(
    candidate: Candidate,
    operation: str,
    results: list[Tensor],
    truths: list[Tensor],
    bounds: list[Tensor],
) -> None:
    """Compare y, and in a step the gradients of x, weight and bias, with the oracle's."""
    if operation == "step":
        results[2] = candidate.edge_weight(results[2])
    names = ("y", "gradient of x", "gradient of weight", "gradient of bias")
    for name, result, truth, bound in zip(names, results, truths, bounds, strict=False):
        over = ((result.detach().double() - truth).abs() - bound).max()
        assert over <= 0, f"{candidate.name} {operation}: {name} is {over:.3g} over the error bound"


def _oracle(pattern: Pattern, *inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return y and the gradients of x, weight and bias in float64, and their error bounds."""
    exact = [tensor.detach().double() for tensor in inputs]
    truths, sizes = (
        [
            reference.forward(x, weight, bias, pattern),
            reference.grad_input(grad_y, weight, pattern),
            reference.grad_weight(grad_y, x, pattern),
            grad_y.sum(0),
        ]
        for x, grad_y, weight, bias in (exact, [tensor.abs() for tensor in exact])
    )
    dtype = inputs[0].dtype
    return truths, [
        reference.error_bound(truth, size, dtype) for truth, size in zip(truths, sizes, strict=True)
    ]

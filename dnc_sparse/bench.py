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
from torch import Tensor, nn

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
    """A layer to time: its three results for `batch` inputs, computed the way a user would."""

    name: str
    layer: Callable[[Tensor], Tensor]
    parameters: tuple[Tensor, ...]

    def operation(self, name: str, x: Tensor, grad_y: Tensor) -> Callable[[], Tensor]:
        """Return the forward pass without gradients, or a step: forward and both gradients."""
        if name not in OPERATIONS:
            raise ValueError(f"unknown operation {name!r}; known ones: {', '.join(OPERATIONS)}")
        if name == "forward":

            def forward() -> Tensor:
                with torch.no_grad():
                    return self.layer(x)

            return forward
        x = x.clone().requires_grad_()

        def step() -> Tensor:
            x.grad = None
            for parameter in self.parameters:
                parameter.grad = None
            torch.autograd.backward(self.layer(x), grad_y)
            assert x.grad is not None
            return x.grad

        return step


def candidates(pattern: Pattern, dtype: torch.dtype = torch.float32) -> list[Candidate]:
    """Return `nn.Linear`, the sparse layer and torch's CSR matrix, all with the same weights.

    CSR is left out where torch has no kernels for it: bfloat16 and float16.
    """
    sparse = SparseLinear(pattern.n_in, pattern.n_out, pattern=pattern, dtype=dtype)
    dense = sparse.to_dense()
    result = [
        Candidate("nn.Linear", dense, tuple(dense.parameters())),
        Candidate("SparseLinear", sparse, tuple(sparse.parameters())),
    ]
    if dtype in (torch.float32, torch.float64):
        result.append(_csr(dense))
    return result


def _csr(dense: nn.Linear) -> Candidate:
    with warnings.catch_warnings():
        # torch announces on first use that CSR support is beta
        warnings.simplefilter("ignore", UserWarning)
        weight = dense.weight.detach().to_sparse_csr().requires_grad_()
    bias = dense.bias.detach().clone().requires_grad_()

    def layer(x: Tensor) -> Tensor:
        # a product from the left is 4.5 times faster than F.linear with a CSR weight
        y: Tensor = torch.sparse.mm(weight, x.mT).mT + bias
        return y

    return Candidate("torch.sparse CSR", layer, (weight, bias))


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
    for name in OPERATIONS:
        runs = [candidate.operation(name, x, grad_y) for candidate in found]
        for candidate, run in zip(found, runs, strict=True):
            _check(candidate.name, name, run(), x, grad_y, found)
        medians = interleaved(list(runs), rounds)
        timings += [
            Timing(candidate.name, name, seconds, seconds / medians[0])
            for candidate, seconds in zip(found, medians, strict=True)
        ]
    return timings


def _check(
    candidate: str, operation: str, result: Tensor, x: Tensor, grad_y: Tensor, all_: list[Candidate]
) -> None:
    """Compare a result with the oracle's, allowing for rounding to its dtype."""
    layer = all_[1].layer
    assert isinstance(layer, SparseLinear)
    weight, pattern = layer.weight.detach().double(), layer.pattern
    if operation == "forward":
        assert layer.bias is not None
        truth = reference.forward(x.double(), weight, layer.bias.detach().double(), pattern)
    else:
        truth = reference.grad_input(grad_y.double(), weight, pattern)
    error = (result.detach().double() - truth).abs().max()
    bound = 8 * torch.finfo(x.dtype).eps * truth.abs().max().clamp(min=1)
    assert error <= bound, f"{candidate} {operation}: off by {error:.3g}, allowed {bound:.3g}"

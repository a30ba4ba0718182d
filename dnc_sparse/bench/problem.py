"""One junction with its inputs, and what the oracle says about every result.

| name   | meaning                              | shape                 |
|--------|--------------------------------------|-----------------------|
| x      | activations of the left layer        | [batch, n_in]         |
| grad_y | gradient in the right layer          | [batch, n_out]        |
| layer  | the sparse layer, weights and bias   | [rows, slots, bo, bi] |
| y      | activations of the right layer       | [batch, n_out]        |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dnc_sparse.backends import reference
from dnc_sparse.nn import SparseLinear
from dnc_sparse.patterns import Pattern

# what each operation returns, in order
RESULTS = {
    "forward": ("y",),
    "step": ("y", "gradient of x", "gradient of weight", "gradient of bias"),
    "grad_input": ("gradient of x",),
    "grad_weight": ("gradient of weight",),
}
OPERATIONS = tuple(RESULTS)


@dataclass(frozen=True, eq=False)
class Problem:
    """A pattern, a number of samples, a dtype, a device; one seed draws weights and inputs."""

    pattern: Pattern
    batch: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @cached_property
    def layer(self) -> SparseLinear:
        """The sparse layer whose weights every candidate takes over."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer = SparseLinear(
                self.pattern.n_in, self.pattern.n_out, pattern=self.pattern, dtype=self.dtype
            )
        return layer.to(self.device)

    @cached_property
    def x(self) -> Tensor:
        """Standard normal activations: [batch, n_in]."""
        return self._normal(self.pattern.n_in, seed=0)

    @cached_property
    def grad_y(self) -> Tensor:
        """Standard normal gradients: [batch, n_out]."""
        return self._normal(self.pattern.n_out, seed=1)

    def check(
        self, candidate: str, operation: str, results: Sequence[Tensor], roundings: int = 1
    ) -> None:
        """Compare what an operation returned with the oracle, weights' gradients in slots.

        Raises AssertionError when a result is off by more than rounding so often to its dtype.
        """
        for name, result in zip(RESULTS[operation], results, strict=True):
            truth, size, bound = self._oracle[name]
            bound = bound + (roundings - 1) * torch.finfo(self.dtype).eps * size
            over = ((result.detach().double() - truth).abs() - bound).max()
            assert over <= 0, f"{candidate} {operation}: {name} is {over:.3g} over the error bound"

    def _normal(self, features: int, seed: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        normal = torch.randn(self.batch, features, generator=generator, device=self.device)
        return normal.to(self.dtype)

    @cached_property
    def _oracle(self) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Each result in float64, its size (of absolute inputs), how far another may be off."""
        assert self.layer.bias is not None
        inputs = (self.x, self.grad_y, self.layer.weight, self.layer.bias)
        exact = [tensor.detach().double() for tensor in inputs]
        truths, sizes = (
            (
                reference.forward(x, weight, bias, self.pattern),
                reference.grad_input(grad_y, weight, self.pattern),
                reference.grad_weight(grad_y, x, self.pattern),
                grad_y.sum(0),
            )
            for x, grad_y, weight, bias in (exact, [tensor.abs() for tensor in exact])
        )
        return {
            name: (truth, size, reference.error_bound(truth, size, self.dtype))
            for name, truth, size in zip(RESULTS["step"], truths, sizes, strict=True)
        }

"""What the tests of all backends share: patterns, exact inputs, and the oracle's bound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from dnc_sparse import backends
from dnc_sparse.backends import cpu, planner, reference
from dnc_sparse.patterns import Pattern
from dnc_sparse.patterns.pattern import sources_of

# a backend, or one instruction set of the cpu backend
RUNNERS = ["reference", "cpu-scalar", "cpu-avx2", "cpu-avx512", "cpu-avx512_bf16", "cpu-neon"]


@contextmanager
def running_on(runner: str) -> Iterator[None]:
    """Force a backend's own kernels (of an instruction set), or skip with its own reason."""
    name, _, isa = runner.partition("-")
    reason = backends.BACKENDS[name].unavailable()
    if reason is None and isa:
        reason = cpu.instruction_sets().get(isa, f"instruction set {isa!r} was not compiled")
    if reason is not None:
        pytest.skip(f"{runner}: {reason}")
    with backends.use_backend(name), planner.use("sparse"):
        if not isa:
            yield
            return
        with cpu.use_instruction_set(isa):
            yield


def random_blocks(
    rows: int, columns: int, density: float, block: tuple[int, int] = (1, 1), seed: int = 0
) -> Pattern:
    """Draw blocks independently, so that degrees vary and rows or columns may be empty."""
    adjacency = np.random.default_rng(seed).random((rows, columns)) < density
    bo, bi = block
    return Pattern(columns * bi, rows * bo, sources_of(adjacency), block)


def balanced_tiles(
    n_in: int, n_out: int, tile: int, edges: int, block: tuple[int, int] = (1, 1), seed: int = 0
) -> Pattern:
    """Give every right block row the same number of edges in every tile of left columns."""
    bo, bi = block
    rows, columns = n_out // bo, n_in // bi
    rng = np.random.default_rng(seed)
    draws = rng.random((rows, columns // tile, tile)).argsort(axis=2)[:, :, :edges]
    sources = draws + np.arange(columns // tile)[:, None] * tile
    return Pattern(n_in, n_out, sources.reshape(rows, -1), block)


@dataclass(frozen=True)
class Case:
    """One junction with its inputs: x [batch, n_in], grad_y [batch, n_out], weight, bias."""

    pattern: Pattern
    x: Tensor
    weight: Tensor
    bias: Tensor
    grad_y: Tensor

    def results(self, backend: backends.Backend) -> dict[str, Tensor]:
        """All functions of the backend."""
        p = self.pattern
        both = backend.backward(self.grad_y, self.x, self.weight, p, True)
        return {
            "forward": backend.forward(self.x, self.weight, self.bias, p),
            "forward without bias": backend.forward(self.x, self.weight, None, p),
            "grad_input": backend.grad_input(self.grad_y, self.weight, p),
            "grad_weight": backend.grad_weight(self.grad_y, self.x, p),
            "backward, grad_input": both[0],
            "backward, grad_weight": both[1],
            "backward, grad_bias": both[2],
        }

    def map(self, change) -> Case:  # type: ignore[no-untyped-def]
        """Apply a function to every tensor."""
        tensors = (self.x, self.weight, self.bias, self.grad_y)
        return Case(self.pattern, *map(change, tensors))


def small_integers(pattern: Pattern, batch: int, dtype: torch.dtype, seed: int = 0) -> Case:
    """Nonzero small integers: every order of summation gives the same result, exactly."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        magnitude = torch.randint(1, 3, shape, generator=generator)
        sign = torch.randint(0, 2, shape, generator=generator) * 2 - 1
        return (magnitude * sign).to(dtype)

    return _case(pattern, batch, draw)


def normals(pattern: Pattern, batch: int, dtype: torch.dtype, seed: int = 0) -> Case:
    """Standard normal inputs, for tests against the bound."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return _case(pattern, batch, draw)


def _case(pattern: Pattern, batch: int, draw) -> Case:  # type: ignore[no-untyped-def]
    weight = draw(*pattern.weight_shape)
    weight[torch.from_numpy(pattern.sources.copy()) < 0] = 0
    return Case(
        pattern,
        draw(batch, pattern.n_in),
        weight,
        draw(pattern.n_out),
        draw(batch, pattern.n_out),
    )


def assert_exact(case: Case, backend: backends.Backend) -> None:
    """Require equality with the oracle in float64, rounded once to the dtype."""
    expected = case.map(lambda t: t.double()).results(reference)
    for name, result in case.results(backend).items():
        assert result.dtype == case.x.dtype, name
        assert torch.equal(result, expected[name].to(result.dtype)), name


def assert_within_bound(case: Case, backend: backends.Backend) -> None:
    """Require every element to be within the oracle's own bound."""
    truth = case.map(lambda t: t.double()).results(reference)
    size = case.map(lambda t: t.double().abs()).results(reference)
    for name, result in case.results(backend).items():
        error = (result.double() - truth[name]).abs()
        bound = reference.error_bound(truth[name], size[name], case.x.dtype)
        assert bool((error <= bound).all()), f"{name}: {(error - bound).max():.3g} over the bound"

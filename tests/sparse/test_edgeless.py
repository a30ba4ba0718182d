"""Junctions with no edge, or hardly any: their results are the bias, whatever plans them."""

from __future__ import annotations

import emulated_cuda
import numpy as np
import pytest
import torch
from support import Case, assert_exact, normals, small_integers
from torch import Tensor

import dnc_sparse
from dnc_sparse import SparseLinear
from dnc_sparse.backends import (
    cpu,
    cuda,
    cuda_blocks,
    cuda_module,
    half,
    planner,
    reference,
    triton,
)
from dnc_sparse.patterns import Pattern, from_mask

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def one_edge(n_in: int, n_out: int) -> Pattern:
    mask = np.zeros((n_out, n_in), dtype=bool)
    mask[n_out // 2, n_in // 3] = True
    return from_mask(mask)


PATTERNS = {
    "none, narrow": Pattern(128, 8, [[]] * 8),
    "none, narrow left": Pattern(8, 128, [[]] * 128),
    "none, wide": Pattern(96, 64, [[]] * 64),
    "none, blocks": Pattern(64, 32, [[]] * 8, (4, 4)),
    "none, of a mask": from_mask(np.zeros((16, 128), dtype=bool)),
    "none, single neurons": Pattern(1, 1, [[]]),
    "one, narrow": one_edge(128, 8),
    "one, wide": one_edge(96, 64),
}


def assert_right(case: Case, results: dict[str, Tensor]) -> None:
    for name, truth in case.map(lambda t: t.double()).results(reference).items():
        result = results[name]
        assert result.dtype == case.x.dtype, name
        assert result.shape == truth.shape, name
        tolerance = 4 * torch.finfo(result.dtype).eps
        close = torch.isclose(result.double(), truth, rtol=tolerance, atol=len(case.x) * tolerance)
        assert bool(close.all()), name


# deterministic algorithms are chosen without a measurement, and fill gaps with NaN
@pytest.mark.parametrize("mode", ["measured", "sparse", "dense", "deterministic"])
@pytest.mark.parametrize("batch", [0, 1, 17, 4096])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_every_function_is_right(name: str, dtype: torch.dtype, batch: int, mode: str) -> None:
    case = normals(PATTERNS[name], batch, dtype)
    backend = half if dtype == torch.float16 else cpu
    if mode == "deterministic":
        torch.use_deterministic_algorithms(True)
        try:
            results = case.results(backend)
        finally:
            torch.use_deterministic_algorithms(False)
    else:
        with planner.use(mode):
            results = case.results(backend)
    assert_right(case, results)


@pytest.mark.parametrize("name", PATTERNS)
def test_layers_and_their_gradients(name: str) -> None:
    pattern = PATTERNS[name]
    layer = SparseLinear(pattern.n_in, pattern.n_out, pattern=pattern)
    x = torch.randn(4096, pattern.n_in, requires_grad=True)
    y = layer(x)
    torch.testing.assert_close(y, layer.to_dense()(x))
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, layer.to_dense().weight.sum(0).expand_as(x))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_explains(name: str, dtype: torch.dtype) -> None:
    for batch in (0, 4096):
        assert "grad_weight" in str(dnc_sparse.explain(PATTERNS[name], batch, dtype, threads=1))


# --- the kernels of GPUs, in Triton's interpreter and in the emulator


def blocks_at(rows: slice, columns: slice, side: int) -> Pattern:
    """Return 2 x 3 blocks, of which there are those in the slices."""
    mask = np.zeros((2, side, 3, side), dtype=bool)
    mask[rows, :, columns] = True
    return from_mask(mask.reshape(2 * side, 3 * side), block=side)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (slice(0), slice(0)),
        (slice(1), slice(1)),
        (slice(1, None), slice(None)),
        (slice(None), slice(2, None)),
    ],
    ids=["none", "one", "an empty row", "empty columns"],
)
@pytest.mark.parametrize(
    ("name", "side"), [("triton", 8), ("triton", 64), ("cuda", 1), ("cuda", 4), ("cuda", 64)]
)
def test_kernels_of_gpus_are_right(
    name: str, rows: slice, columns: slice, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern, dtype = blocks_at(rows, columns, side), torch.float16
    if name == "cuda":
        module = emulated_cuda.module()
        monkeypatch.setattr(cuda_module, "compiled", lambda: module)
        monkeypatch.setattr(cuda_blocks, "_allowed", {"cpu": None})
    backend = {"triton": triton, "cuda": cuda}[name]
    if (reason := backend.unavailable("cpu", dtype, pattern.block)) is not None:
        pytest.skip(f"{name}: {reason}")
    for batch in (0, 1, 70):
        assert_exact(small_integers(pattern, batch, dtype), backend)

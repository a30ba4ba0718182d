"""Dense arithmetic on a pattern's weights, the planner's other choice, against the oracle."""

from __future__ import annotations

import pytest
import torch
from support import (
    Case,
    assert_exact,
    assert_within_bound,
    normals,
    random_blocks,
    small_integers,
)

from dnc_sparse import ops
from dnc_sparse.backends import cpu, planner
from dnc_sparse.patterns import nearest

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
BLOCKS = [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (4, 1), (1, 4), (3, 5)]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dense_equals_oracle(block: tuple[int, int], dtype: torch.dtype) -> None:
    # degrees vary, so that there are empty slots, whose gradients are compared too
    pattern = random_blocks(13, 11, 0.4, block)
    assert (pattern.sources < 0).any()
    with planner.use("dense"):
        for batch in (0, 1, 40):
            assert_exact(small_integers(pattern, batch, dtype), cpu)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dense_is_within_bound(dtype: torch.dtype) -> None:
    with planner.use("dense"):
        assert_within_bound(normals(random_blocks(37, 300, 0.3), 200, dtype), cpu)


def test_dense_over_threads() -> None:
    # matrices large enough that rows are shared out
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with planner.use("dense"):
            for block in ((1, 1), (8, 2)):
                pattern = random_blocks(400 // block[0], 400 // block[1], 0.5, block)
                assert_exact(small_integers(pattern, 3, torch.float32), cpu)
    finally:
        torch.set_num_threads(before)


def test_dense_takes_any_strides() -> None:
    case = small_integers(random_blocks(13, 11, 0.4, (4, 4)), 40, torch.float32)
    transposed = case.map(lambda t: t.mT.contiguous().mT if t.dim() > 1 else t)
    negated = case.map(lambda t: torch.complex(t, -t).conj().imag)
    assert not transposed.weight.is_contiguous()
    assert negated.weight.is_neg()
    with planner.use("dense"):
        for strided in (transposed, negated):
            assert_exact(strided, cpu)


@pytest.mark.parametrize("mode", ["sparse", "dense"])
def test_a_layer_trains_alike_by_either(mode: planner.Mode) -> None:
    case = small_integers(nearest(64, 32, density=1 / 2), 40, torch.float32)
    with planner.use(mode):
        got = gradients(case)
    expected = gradients(case.map(lambda t: t.double()))
    assert all(torch.equal(a, b.float()) for a, b in zip(got, expected, strict=True))


def gradients(case: Case) -> list[torch.Tensor]:
    x, weight, bias = (t.clone().requires_grad_() for t in (case.x, case.weight, case.bias))
    y = ops.forward(x, weight, bias, case.pattern)
    y.backward(case.grad_y)
    return [y.detach(), *(t.grad for t in (x, weight, bias) if t.grad is not None)]

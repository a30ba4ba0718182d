"""float16 on the CPU: the float32 kernels' results, rounded once."""

from __future__ import annotations

import pytest
import torch
from support import (
    assert_exact,
    assert_within_bound,
    balanced_tiles,
    normals,
    random_blocks,
    small_integers,
)

from dnc_sparse import SparseLinear
from dnc_sparse.backends import half

PATTERNS = {
    "varying": random_blocks(5, 6, 0.5),
    "blocks": random_blocks(3, 4, 0.6, (2, 3)),
    "balanced": balanced_tiles(64, 48, 16, 3),
}


@pytest.mark.parametrize("batch", [0, 1, 5, 70])
@pytest.mark.parametrize("name", PATTERNS)
def test_equals_the_oracle(name: str, batch: int) -> None:
    assert_exact(small_integers(PATTERNS[name], batch, torch.float16), half)
    assert_within_bound(normals(PATTERNS[name], batch, torch.float16), half)


@pytest.mark.parametrize("relu", [False, True])
def test_a_layer_and_its_gradients_equal_the_dense_ones(relu: bool) -> None:
    torch.manual_seed(0)
    layer = SparseLinear(64, 48, 0.25, relu=relu).half()
    x = torch.randn(9, 64, dtype=torch.float16, requires_grad=True)
    dense = layer.to_dense()
    expected = dense(x).relu() if relu else dense(x)
    grads = []
    for y in (layer(x), expected):
        assert y.dtype == torch.float16
        (grad,) = torch.autograd.grad(y.float().square().sum(), x)
        grads.append(grad)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(*grads, rtol=2e-3, atol=2e-3)


def test_autocast_to_float16_equals_half_layers() -> None:
    layer = SparseLinear(64, 48, 0.25)
    x = torch.randn(9, 64)
    with torch.autocast("cpu", dtype=torch.float16):
        y = layer(x)
    with torch.no_grad():
        assert torch.equal(y, layer.half()(x.half()))


def test_states_what_it_computes() -> None:
    message = "it computes torch.float16, not torch.float32"
    assert half.unavailable("cpu", torch.float32) == message
    assert half.unavailable("cuda", torch.float16) == "it computes on the CPU, not on 'cuda'"

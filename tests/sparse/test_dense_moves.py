"""Dense matrices of a junction's weights, written and read edge by edge or by masks."""

from __future__ import annotations

import pytest
import torch
from support import balanced_tiles, random_blocks

from dnc_sparse import _cpu
from dnc_sparse.backends import dense
from dnc_sparse.patterns import Pattern

PATTERNS = {
    "varying 1x1": random_blocks(37, 300, 0.4),
    "varying 1x3": random_blocks(37, 31, 0.4, (1, 3)),
    "varying 4x2": random_blocks(9, 40, 0.4, (4, 2)),
    "balanced": balanced_tiles(784, 40, 98, 49),
    "fully connected": random_blocks(33, 65, 1.0),
    "one neuron": random_blocks(1, 1, 1.0),
}


@pytest.fixture(params=["edges", "masks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Move numbers one edge at a time, or by masks where a pattern allows it."""
    if request.param == "masks" and _cpu.vbmi2_unavailable() is not None:
        pytest.skip(f"masks: {_cpu.vbmi2_unavailable()}")
    monkeypatch.setattr(dense, "MASKED_DENSITY", 0.0 if request.param == "masks" else 2.0)
    return str(request.param)


def expected(pattern: Pattern, weight: torch.Tensor) -> torch.Tensor:
    bo, bi = pattern.block
    matrix = torch.zeros(pattern.n_out // bo, pattern.n_in // bi, bo, bi, dtype=weight.dtype)
    for row, sources in enumerate(pattern.sources.tolist()):
        for slot, column in enumerate(sources):
            if column >= 0:
                matrix[row, column] = weight[row, slot]
    return matrix.transpose(1, 2).reshape(pattern.n_out, pattern.n_in)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_weights_go_into_a_matrix_and_back(name: str, dtype: torch.dtype) -> None:
    pattern = PATTERNS[name]
    generator = torch.Generator().manual_seed(0)
    # no weight is zero, so that a lost one shows, nor are those in empty slots
    weight = (1 + torch.rand(pattern.weight_shape, generator=generator)).to(dtype)
    matrix = dense._scattered(weight, pattern)
    assert torch.equal(matrix, expected(pattern, weight))
    filled = torch.from_numpy(pattern.sources.copy()) >= 0
    weight[~filled] = 0
    # what lies between the edges is dropped
    noise = torch.ones_like(matrix).where(matrix == 0, matrix)
    assert torch.equal(dense._gathered(noise, pattern), weight)


@pytest.mark.skipif(_cpu.vbmi2_unavailable() is not None, reason=f"{_cpu.vbmi2_unavailable()}")
def test_masks_move_what_they_can() -> None:
    pattern = PATTERNS["varying 4x2"]
    masks = _cpu.Masks(pattern.sources, pattern.columns, *pattern.block)
    message = r"^masks move numbers of 2 or 4 bytes, of one right neuron per block$"
    for move in (masks.scatter, masks.gather):
        with pytest.raises(ValueError, match=message):
            move(2, 0, 0, 1)

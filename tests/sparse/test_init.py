"""dnc_sparse.init: the spread of each weight follows from the edges its neurons really have."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from support import random_blocks
from torch import Tensor, nn

from dnc_sparse import SparseLinear, init
from dnc_sparse.patterns import Pattern, from_mask


def uneven(block: int = 1) -> Pattern:
    """Half of the right neurons with 4 times as many edges as the others, columns uneven too."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = 256 // block, 512 // block
    dense = torch.rand(rows, columns, generator=generator)
    chance = torch.where(torch.arange(rows) % 2 == 0, 0.4, 0.1)[:, None]
    chance = chance * torch.where(torch.arange(columns) < columns // 2, 1.5, 0.5)
    mask = (dense < chance).repeat_interleave(block, 0).repeat_interleave(block, 1)
    return from_mask(mask, block)


def dense_fans(pattern: Pattern) -> tuple[Tensor, Tensor]:
    """Count the edges of each neuron in the mask: fan_in [n_out, 1], fan_out [1, n_in]."""
    mask = torch.from_numpy(pattern.mask()).double()
    return mask.sum(1, keepdim=True), mask.sum(0, keepdim=True)


RULES: list[tuple[str, dict[str, Any], Any]] = [
    ("kaiming_normal_", {}, lambda i, o: (2 / i).sqrt() + 0 * o),
    ("kaiming_normal_", {"nonlinearity": "tanh"}, lambda i, o: (25 / 9 / i).sqrt() + 0 * o),
    ("kaiming_normal_", {"mode": "fan_out"}, lambda i, o: (2 / o).sqrt() + 0 * i),
    ("kaiming_uniform_", {"a": math.sqrt(5)}, lambda i, o: (1 / 3 / i).sqrt() + 0 * o),
    ("kaiming_uniform_", {"mode": "fan_out"}, lambda i, o: (2 / o).sqrt() + 0 * i),
    ("xavier_normal_", {"gain": 2.0}, lambda i, o: 2 * (2 / (i + o)).sqrt()),
    ("xavier_uniform_", {}, lambda i, o: (2 / (i + o)).sqrt()),
    ("normal_", {"std": 0.02}, lambda i, o: torch.full_like(i + o, 0.02)),
    ("trunc_normal_", {"std": 0.02}, lambda i, o: torch.full_like(i + o, 0.02)),
    ("uniform_", {"a": -0.3, "b": 0.3}, lambda i, o: torch.full_like(i + o, 0.3 / math.sqrt(3))),
]


@pytest.mark.parametrize("block", [1, 2, 8])
@pytest.mark.parametrize(("name", "arguments", "expected"), RULES)
def test_each_weight_has_the_spread_of_its_own_fans(
    name: str, arguments: dict[str, Any], expected: Any, block: int
) -> None:
    pattern = uneven(block)
    layer = SparseLinear(512, 256, pattern=pattern)
    generator = torch.Generator().manual_seed(1)
    assert getattr(init, name)(layer, **arguments, generator=generator) is layer
    mask = torch.from_numpy(pattern.mask())
    fan_in, fan_out = dense_fans(pattern)
    spread = expected(fan_in.clamp(min=1), fan_out.clamp(min=1))
    # all weights over their expected spreads have variance one, in each quarter of the matrix
    unit = layer.to_dense().weight.double() / spread
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        for columns in (slice(0, 256), slice(256, 512)):
            values = unit[rows, columns][mask[rows, columns]]
            # five standard errors of a normal's variance
            assert abs(values.square().mean() - 1) < 5 * math.sqrt(2 / len(values)), (rows, columns)


def test_blocks_of_8_get_the_spread_that_torch_misses() -> None:
    layer = SparseLinear(1024, 1024, 1 / 8, block=8)
    torch.nn.init.kaiming_normal_(layer.weight)
    assert layer.weight.std().item() == pytest.approx(0.125 / math.sqrt(8), rel=0.01)
    init.kaiming_normal_(layer)
    assert layer.weight.std().item() == pytest.approx(0.125, rel=0.01)


@pytest.mark.parametrize("name", ["kaiming_normal_", "xavier_uniform_", "uniform_", "ones_"])
def test_empty_slots_stay_zero_and_biases_alone(name: str) -> None:
    pattern = random_blocks(32, 64, 0.2)
    layer = SparseLinear(64, 32, pattern=pattern)
    bias = layer.bias.detach().clone() if layer.bias is not None else None
    getattr(init, name)(layer)
    empty = torch.from_numpy(pattern.sources < 0)
    assert empty.any()
    assert (layer.weight[empty] == 0).all()
    assert (layer.weight[~empty] != 0).all()
    assert bias is not None
    assert torch.equal(layer.bias, bias)


def test_dense_layers_are_drawn_as_by_torch() -> None:
    for name in ("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_"):
        ours, theirs = nn.Linear(64, 32), nn.Linear(64, 32)
        getattr(init, name)(ours, generator=torch.Generator().manual_seed(2))
        getattr(nn.init, name)(theirs.weight, generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(ours.weight, theirs.weight)


def test_a_model_is_drawn_as_a_whole_and_by_its_generator() -> None:
    model = nn.Sequential(
        SparseLinear(64, 64, 0.25), nn.ReLU(), nn.Linear(64, 8), nn.Conv2d(1, 1, 3)
    )
    kept = model[3].weight.detach().clone()
    init.zeros_(model)
    assert not model[0].weight.any()
    assert not model[2].weight.any()
    assert torch.equal(model[3].weight, kept)
    init.kaiming_normal_(model, generator=torch.Generator().manual_seed(3))
    first = model[0].weight.detach().clone()
    init.kaiming_normal_(model, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, model[0].weight)


def test_refuses_what_has_no_edges() -> None:
    layer = SparseLinear(64, 64, 0.25, block=1)
    text = r"^dnc_sparse.init takes a layer or a model, got a tensor of shape \[64, 16, 1, 1\], .* "
    with pytest.raises(TypeError, match=text + "write the layer instead of layer.weight$"):
        init.kaiming_normal_(layer.weight)  # type: ignore[type-var]
    with pytest.raises(ValueError, match=r"^a Conv2d has no SparseLinear or nn.Linear to init"):
        init.xavier_normal_(nn.Conv2d(1, 1, 3))
    with pytest.raises(ValueError, match=re.escape("unknown mode 'both'; choose 'fan_in' or")):
        init.kaiming_normal_(layer, mode="both")  # type: ignore[arg-type]
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    text = "^the weight of a ParametrizedLinear is computed from other parameters"
    with pytest.raises(ValueError, match=text):
        init.zeros_(normed)
    pruned = nn.Linear(4, 4)
    nn.utils.prune.identity(pruned, "weight")
    with pytest.raises(ValueError, match=r"^the weight of a Linear is computed from other"):
        init.zeros_(pruned)

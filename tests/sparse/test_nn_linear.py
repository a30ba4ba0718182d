"""SparseLinear: the same function as a masked dense layer, its initial weights, its messages."""

from __future__ import annotations

import math

import pytest
import torch
from support import random_blocks
from torch import nn

from dnc_sparse.nn import SparseLinear, he_normal_
from dnc_sparse.patterns import Pattern, clash_free, nearest

ALL_EMPTY = Pattern(4, 2, torch.zeros(2, 0, dtype=torch.int32).numpy())


def masked_dense(layer: SparseLinear, x: torch.Tensor) -> torch.Tensor:
    dense = layer.to_dense()
    assert torch.equal(dense.weight != 0, torch.from_numpy(layer.pattern.mask()))
    return dense(x)


@pytest.mark.parametrize("leading", [(), (0,), (1,), (7,), (2, 3), (2, 0, 3), (2, 1, 3, 1)])
@pytest.mark.parametrize("block", [1, (2, 4)])
def test_accepts_any_leading_sizes(leading: tuple[int, ...], block: int | tuple[int, int]) -> None:
    layer = SparseLinear(16, 8, 0.5, block=block, dtype=torch.float64)
    x = torch.randn(*leading, 16, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert y.shape == (*leading, 8)
    torch.testing.assert_close(y, masked_dense(layer, x))
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


def test_transposed_input_is_taken_as_it_is() -> None:
    layer = SparseLinear(16, 8, 0.5, dtype=torch.float64)
    x = torch.randn(16, 3, 5, dtype=torch.float64).transpose(0, 2)
    torch.testing.assert_close(layer(x), masked_dense(layer, x))


def test_describes_itself() -> None:
    layer = SparseLinear(16, 8, fan_in=4, block=2, bias=False, seed=3)
    assert (layer.in_features, layer.out_features) == (16, 8)
    assert (layer.density, layer.n_edges, layer.bias) == (0.25, 32, None)
    text = "16, 8, density=0.25, fan_in=4, family=clash_free, block=2x2, bias=False"
    assert layer.extra_repr() == text
    assert "family=clash_free, block=1x1, bias=True" in repr(SparseLinear(16, 8, 0.5))


@pytest.mark.parametrize("shape", [(7, 16), (2, 3, 16), (16,)])
def test_relu_is_that_of_a_module_after_the_layer(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = SparseLinear(16, 8, 0.5, relu=True, dtype=torch.float64)
    x = torch.randn(shape, dtype=torch.float64)
    y = layer(x)
    assert (y == 0).any()
    torch.testing.assert_close(y, torch.relu(masked_dense(layer, x)))
    assert repr(layer).endswith("bias=True, relu=True)")
    assert SparseLinear.from_dense(layer.to_dense(), 0.5, relu=True).relu
    again = SparseLinear.from_state_dict(layer.state_dict(), relu=True)
    assert torch.equal(again(x), y)


@pytest.mark.parametrize("degree", [{"density": 0.25}, {"fan_in": 16}, {"fan_out": 8}])
def test_every_way_to_ask_for_a_pattern_gives_the_same(degree: dict[str, float]) -> None:
    layer = SparseLinear(64, 32, **degree, kind=2, seed=5)  # type: ignore[arg-type]
    assert layer.pattern == clash_free(64, 32, fan_in=16, kind=2, seed=5)
    given = SparseLinear(64, 32, pattern=layer.pattern)
    assert given.pattern is layer.pattern


def test_rounded_density_is_the_one_reported() -> None:
    with pytest.warns(UserWarning, match=r"^density 0.3 of a 4 -> 6 junction becomes 0.25"):
        layer = SparseLinear(4, 6, 0.3)
    assert layer.density == 0.25


def test_starts_like_a_dense_layer_of_the_sparse_fan_in() -> None:
    torch.manual_seed(0)
    layer = SparseLinear(400, 200, fan_in=25)
    assert layer.bias is not None
    for values in (layer.weight, layer.bias):
        assert 0.95 / 5 < values.abs().max() <= 1 / 5
    assert abs(layer.weight.std().item() * math.sqrt(3 * 25) - 1) < 0.02


def test_dense_fan_in_is_an_option() -> None:
    layer = SparseLinear(400, 200, fan_in=25, init_fan_in="dense")
    assert 0.95 / 20 < layer.weight.abs().max() <= 1 / 20


def test_each_neuron_of_an_irregular_pattern_uses_its_own_fan_in() -> None:
    pattern = Pattern(100, 2, torch.tensor([[*range(100)], [*range(4), *[-1] * 96]]).numpy())
    layer = SparseLinear(100, 2, pattern=pattern)
    assert layer.weight[0].abs().max() <= 1 / 10 < layer.weight[1].abs().max() <= 1 / 2


def test_a_junction_without_edges_gives_its_bias() -> None:
    layer = SparseLinear(4, 2, pattern=ALL_EMPTY)
    he_normal_(layer)
    assert torch.equal(layer(torch.randn(3, 4)), torch.full((3, 2), 0.1))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_empty_slots_stay_zero(optimizer: type[torch.optim.Optimizer]) -> None:
    pattern = random_blocks(8, 6, 0.4, block=(1, 2), seed=1)
    empty = torch.from_numpy(pattern.sources < 0)
    assert empty.any()
    layer = SparseLinear(12, 8, pattern=pattern)
    training = optimizer(layer.parameters(), lr=0.1, weight_decay=0.1)  # type: ignore[call-arg]
    for _ in range(5):
        training.zero_grad()
        layer(torch.randn(4, 12)).square().sum().backward()
        assert layer.weight.grad is not None
        assert torch.equal(layer.weight.grad[empty], torch.zeros_like(layer.weight[empty]))
        training.step()
    assert not layer.weight[empty].any()
    he_normal_(layer)
    assert not layer.weight[empty].any()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("block", [(1, 1), (2, 1), (2, 3)])
def test_from_dense_keeps_the_weights_on_edges(block: tuple[int, int], bias: bool) -> None:
    dense = nn.Linear(12, 8, bias=bias, dtype=torch.float64)
    pattern = random_blocks(8 // block[0], 12 // block[1], 0.5, block)
    layer = SparseLinear.from_dense(dense, pattern=pattern)
    back = layer.to_dense()
    assert layer.weight.dtype == torch.float64
    assert torch.equal(back.weight, dense.weight * torch.from_numpy(pattern.mask()))
    assert (back.bias is not None) == bias
    if bias:
        assert torch.equal(back.bias, dense.bias)
    assert SparseLinear.from_dense(dense, 0.5, block=block).density == 0.5


def test_built_on_the_meta_device_without_memory() -> None:
    layer = SparseLinear(16, 8, 0.5, device="meta", dtype=torch.bfloat16)
    assert layer.weight.is_meta
    assert layer.to_empty(device="cpu").weight.dtype == torch.bfloat16


def test_he_normal_uses_the_dense_fan_in_and_the_bias_of_the_papers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(SparseLinear(800, 100, fan_out=20), nn.ReLU(), nn.Linear(800, 100))
    he_normal_(model)
    for layer in (model[0], model[2]):
        std = math.sqrt(2 / 800)
        assert abs(layer.weight.std().item() / std - 1) < 0.02
        assert layer.weight.abs().max() <= 2 * std / 0.8796
        assert torch.equal(layer.bias, torch.full((100,), 0.1))


def test_he_normal_can_use_the_sparse_fan_in_and_a_generator() -> None:
    layer = SparseLinear(800, 100, fan_out=20)
    he_normal_(layer, fan_in="sparse", bias=0, generator=torch.Generator().manual_seed(1))
    first = layer.weight.detach().clone()
    assert abs(first.std().item() / math.sqrt(2 / 160) - 1) < 0.02
    he_normal_(layer, fan_in="sparse", bias=0, generator=torch.Generator().manual_seed(1))
    assert torch.equal(layer.weight, first)


def test_refuses_not_exactly_one_choice_of_pattern() -> None:
    text = "give exactly one of density, fan_in, fan_out, pattern; got"
    with pytest.raises(ValueError, match=f"^{text} none$"):
        SparseLinear(8, 4)
    with pytest.raises(ValueError, match=f"^{text} density and pattern$"):
        SparseLinear(8, 4, 0.5, pattern=nearest(8, 4, density=0.5))


def test_refuses_a_pattern_of_other_sizes() -> None:
    with pytest.raises(ValueError, match=r"^Pattern\(.*8 -> 4.*\) does not fit a layer 8 -> 6; "):
        SparseLinear(8, 6, pattern=nearest(8, 4, density=0.5))


def test_refuses_an_unknown_fan_in_rule() -> None:
    text = "^unknown fan-in rule 'both'; choose 'sparse' or 'dense'$"
    with pytest.raises(ValueError, match=text):
        SparseLinear(8, 4, 0.5, init_fan_in="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=text):
        he_normal_(nn.Linear(2, 2), fan_in="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3, 16), (16,), (2, 4, 4), ()])
def test_refuses_another_number_of_inputs(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^x must be \[batch, 8\] for Pattern\(.*got \["):
        SparseLinear(8, 4, 0.5)(torch.zeros(shape))

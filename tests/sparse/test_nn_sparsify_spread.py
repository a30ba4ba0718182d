"""New weights of a converted layer have the spread that sums over its old ones had."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dnc_sparse.nn import SparseLinear, sparsify

INITIALISERS: dict[str, Callable[[Tensor], object]] = {
    "kaiming normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "xavier uniform": nn.init.xavier_uniform_,
    "truncated normal": lambda w: nn.init.trunc_normal_(w, std=0.02),
    "zero": nn.init.zeros_,
    "rows of two scales": lambda w: w.normal_().mul_(torch.arange(1, 257)[:, None] % 2 * 9 + 1),
}


@pytest.mark.parametrize("block", [1, 8])
@pytest.mark.parametrize("name", INITIALISERS)
def test_new_weights_have_the_spread_of_the_old(name: str, block: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 256))
    with torch.no_grad():
        INITIALISERS[name](model[0].weight)
        model[0].bias.fill_(0.1)
    dense = copy.deepcopy(model[0])
    sparsify(model, 1 / 8, block=block)
    sparse = model[0].to_dense().weight
    # sums over the edges of a neuron spread as sums over all inputs did
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        new, old = sparse[rows].square().sum(), dense.weight[rows].square().sum()
        torch.testing.assert_close(new, old, rtol=0.05, atol=0)
    assert torch.equal(model[0].bias, dense.bias)
    if name != "zero":
        assert not torch.equal(sparse, dense.weight * (sparse != 0) * math.sqrt(8))
    papers = nn.Sequential(copy.deepcopy(dense))
    sparsify(papers, 1 / 8, block=block, init_fan_in="dense")
    new, old = papers[0].weight.square().sum(), dense.weight.square().sum() / 8
    torch.testing.assert_close(new, old, rtol=0.06, atol=0)


def test_a_layer_as_torch_made_it_is_drawn_as_a_sparse_layer_is() -> None:
    for bias in (True, False):
        model = nn.Sequential(nn.Linear(128, 64, bias=bias), nn.Linear(64, 100, bias=bias))
        state = torch.get_rng_state()
        sparsify(model, 0.25)
        torch.set_rng_state(state)
        for layer in model:
            twin = SparseLinear(
                *(layer.in_features, layer.out_features), pattern=layer.pattern, bias=bias
            )
            assert torch.equal(layer.weight, twin.weight)
            assert not bias or torch.equal(layer.bias, twin.bias)


def test_activations_of_a_deep_network_keep_their_spread() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(256, 256) for _ in range(6)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    dense = nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())))
    x = torch.randn(512, 256)
    expected = dense(x).std()
    for choice in ({}, {"keep_weights": True, "rescale": True}):
        model = copy.deepcopy(dense)
        sparsify(model, 1 / 8, **choice)
        assert 0.6 < model(x).std() / expected < 1.6
    faded = copy.deepcopy(dense)
    sparsify(faded, 1 / 8, keep_weights=True)
    assert faded(x).std() / expected < 0.02

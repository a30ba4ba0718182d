"""Zero-cost proxies: against naive computations, harmless to the network, recorded."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from search.tiny_space import CLASSES, SparseSpace, TinySpace, config, measured
from torch import nn

from dnc_search.evaluation import evaluate, promise
from dnc_search.proxies import minibatch, naswot, proxies, synflow
from dnc_sparse import SparseMLP

X = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)),
    )


def naive_naswot(activations: list[torch.Tensor]) -> float:
    on = torch.cat(activations, 1).numpy() > 0
    agree = [[float((a == b).sum()) for b in on] for a in on]
    return float(np.linalg.slogdet(np.array(agree) + np.eye(len(on)))[1])


def test_naswot_counts_the_relus_at_which_samples_agree() -> None:
    model = network().eval()
    with torch.no_grad():
        activations = [model[:3](X), model[:6](X)]
    assert naswot(model, X) == pytest.approx(naive_naswot(activations), rel=1e-12)


def test_naswot_sees_the_relu_inside_a_sparse_layer() -> None:
    model = SparseMLP((6, 8, 4, 3), 0.5, seed=0)
    with torch.no_grad():
        first, second, _ = model.junctions
        hidden = torch.relu(first.to_dense()(X))
        activations = [hidden, torch.relu(second.to_dense()(hidden))]
    assert first.relu
    assert naswot(model, X) == pytest.approx(naive_naswot(activations), rel=1e-12)


def test_samples_that_nothing_tells_apart_are_worth_least() -> None:
    assert naswot(nn.Linear(6, 3), X) == 0
    model, same = network().eval(), X[:1].expand(9, -1)
    # 13 ReLUs: 9 x 9 times 13, and the identity
    assert naswot(model, same) == pytest.approx(math.log(9 * 13 + 1))
    assert naswot(model, X) > naswot(model, same)


def test_synflow_of_a_chain_of_matrices() -> None:
    a, b = nn.Linear(6, 8, bias=False), nn.Linear(8, 3, bias=False)
    flow = float((b.weight.detach().abs() @ a.weight.detach().abs()).sum())
    # each of the two layers conserves the flow
    assert synflow(nn.Sequential(a, nn.ReLU(), b), X) == pytest.approx(math.log10(2 * flow))


def test_a_proxy_that_is_not_finite_is_left_out() -> None:
    model = nn.Linear(6, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    assert proxies(model, X) == {"naswot": 0.0}


def test_the_network_is_left_as_it_was() -> None:
    model, before = network(), network().state_dict()
    state = torch.get_rng_state()
    proxies(model, X)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_minibatch_comes_from_all_over_the_samples() -> None:
    assert len(minibatch(X)) == 9
    rows = minibatch(torch.arange(1000)[:, None])[:, 0]
    assert len(set(rows.tolist())) == 128
    assert torch.bincount(rows // 250).tolist() == [32, 32, 32, 32]


@pytest.mark.parametrize("space", [TinySpace(), SparseSpace()])
def test_what_a_filter_goes_by_is_what_is_recorded(space: TinySpace) -> None:
    settings = measured("parameters")
    done = evaluate(space, config(), CLASSES, settings, seed=3)
    assert set(done.proxies) == {"naswot", "synflow"}
    # the same whatever a candidate's batch size is
    for name, value in done.proxies.items():
        other = config(batch_size=7)
        assert promise(space, other, CLASSES, settings, name, seed=3) == value
        assert promise(space, other, CLASSES, settings, name, seed=4) != value
    parameters = promise(space, config(), CLASSES, measured("edges"), "parameters")
    assert parameters == done.measures["parameters"]


def test_what_cannot_be_built_promises_nothing() -> None:
    assert promise(TinySpace(), config(-1), CLASSES, measured(), "naswot") is None

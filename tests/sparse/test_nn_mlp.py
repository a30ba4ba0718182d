"""SparseMLP: sizes in the papers' notation, densities, seeds, the dense junction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dnc_sparse.nn import SparseLinear, SparseMLP
from dnc_sparse.patterns import regular


def patterns(model: SparseMLP) -> list[Any]:
    return [getattr(junction, "pattern", None) for junction in model.junctions]


def test_the_network_of_the_papers() -> None:
    model = SparseMLP((800, 100, 10), fan_out=(50, 10))
    sparse, dense = model.junctions
    assert isinstance(sparse, SparseLinear)
    assert (sparse.pattern.fan_in, sparse.pattern.fan_out) == (400, 50)
    assert type(dense) is nn.Linear
    assert (model.edges, model.n_edges, model.n_parameters) == ((40_000, 1_000), 41_000, 41_110)
    assert model.density == 41_000 / 81_000


@pytest.mark.parametrize("family", ["auto", "clash_free", "regular", "random", "cyclic"])
@pytest.mark.parametrize("rule", ["uniform", "erdos_renyi", "later_denser"])
def test_overall_density_is_met(rule: str, family: str) -> None:
    model = SparseMLP((256, 128, 64, 16), 0.25, rule=rule, family=family)
    assert abs(model.density - 0.25) < 0.01


def test_density_and_fan_in_of_each_junction() -> None:
    by_density = SparseMLP((64, 32, 16), [0.25, 0.5], block=2, seed=4)
    by_fan_in = SparseMLP((64, 32, 16), fan_in=[16, 16], block=2, seed=4)
    assert patterns(by_density) == patterns(by_fan_in)


def test_forward_is_activation_between_junctions_and_none_after_the_last() -> None:
    model = SparseMLP((12, 8, 4), 0.5, activation=nn.Tanh, dropout=0.5).eval()
    first, last = model.junctions
    x = torch.randn(2, 3, 12)
    torch.testing.assert_close(model(x), last(torch.tanh(first(x))))
    assert model.train()(x).shape == (2, 3, 4)


def unfused(model: SparseMLP) -> nn.Sequential:
    """Return the same network with its activations as modules; its weights are shared."""
    layers: list[nn.Module] = []
    for junction in model.junctions:
        if isinstance(junction, SparseLinear):
            linear = SparseLinear(
                junction.in_features, junction.out_features, pattern=junction.pattern
            )
            linear.weight, linear.bias = junction.weight, junction.bias
            junction = linear
        layers += [junction, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_relu_is_applied_by_the_sparse_hidden_junctions() -> None:
    torch.manual_seed(0)
    # full, sparse, full, sparse, and the last one without activation
    model = SparseMLP((8, 32, 16, 12, 24, 4), [1, 0.5, 1, 0.5, 0.5])
    assert [getattr(j, "relu", None) for j in model.junctions] == [None, True, None, True, False]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape))
    x = torch.randint(-2, 3, (9, 8)).float()
    results = []
    for network in (model, unfused(model)):
        model.zero_grad()
        y = network(x)
        y.backward(torch.ones_like(y))
        results.append([y, *(p.grad for p in model.parameters())])
    assert all(tensor.any() for tensor in results[0])
    assert all(map(torch.equal, *results))


def test_other_activations_stay_modules() -> None:
    class Shifted(nn.ReLU):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1

    for activation in (nn.Tanh, Shifted):
        model = SparseMLP((12, 8, 4), 0.5, activation=activation)
        first, last = model.junctions
        assert not first.relu
        x = torch.randn(3, 12)
        torch.testing.assert_close(model(x), last(activation()(first(x))))


def test_a_state_does_not_depend_on_the_activation() -> None:
    fused, other = (SparseMLP((12, 8, 4), 0.5, activation=a) for a in (nn.ReLU, nn.Tanh))
    assert list(fused.state_dict()) == list(other.state_dict())
    other.load_state_dict(fused.state_dict())


def test_each_junction_has_its_own_pattern_and_the_seed_fixes_all() -> None:
    sizes = (64, 64, 64)
    one, same, other = (SparseMLP(sizes, 0.25, seed=seed) for seed in (1, 1, 2))
    assert patterns(one) == patterns(same)
    assert patterns(one)[0] != patterns(one)[1]
    assert all(a != b for a, b in zip(patterns(one), patterns(other), strict=True))
    assert patterns(one)[0] == patterns(SparseMLP((64, 64), 0.25, seed=1))[0]


def test_options_reach_the_layers() -> None:
    model = SparseMLP((64, 32), 0.25, family="clash_free", banks=8, kind=3, init_fan_in="dense")
    (junction,) = model.junctions
    assert isinstance(junction, SparseLinear)
    assert (junction.pattern.spec["banks"], junction.pattern.spec["kind"]) == (8, 3)
    assert junction.init_fan_in == "dense"


@pytest.mark.parametrize("degree", [{"density": 1}, {"density": [1, 1]}, {"fan_in": [40, 30]}])
def test_full_junctions_are_dense_layers(degree: dict[str, Any]) -> None:
    model = SparseMLP((40, 30, 7), **degree)
    assert [type(junction) for junction in model.junctions] == [nn.Linear, nn.Linear]
    assert model.density == 1


def test_a_junction_rounded_to_every_edge_is_a_dense_layer() -> None:
    model = SparseMLP((10, 10), [0.98])
    assert type(model.junctions[0]) is nn.Linear


def test_refuses_a_single_layer() -> None:
    with pytest.raises(ValueError, match=r"^a network needs at least two layer sizes, got \(5,\)$"):
        SparseMLP([5], 0.5)


def test_refuses_not_exactly_one_degree() -> None:
    text = "^give exactly one of density, fan_out and fan_in; got "
    with pytest.raises(ValueError, match=f"{text}none$"):
        SparseMLP((8, 4))
    with pytest.raises(ValueError, match=f"{text}density and fan_in$"):
        SparseMLP((8, 4), 0.5, fan_in=[4])


def test_refuses_another_count_of_numbers_than_junctions() -> None:
    with pytest.raises(
        ValueError, match=r"^3 layers have 2 junctions but fan_out has 3 numbers: \(2, 2, 2\)$"
    ):
        SparseMLP((8, 4, 2), fan_out=[2, 2, 2])


def test_patterns_regular_where_degrees_cannot_be_equal() -> None:
    model = SparseMLP((30, 7), fan_in=[4], seed=0)
    assert patterns(model)[0].spec["family"] == "regular"
    assert patterns(model)[0].fan_in == regular(30, 7, fan_in=4).fan_in


def test_trains() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 32)
    y = (x[:, :8].sum(1) > 0).long()
    model = SparseMLP((32, 64, 2), 0.25, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]

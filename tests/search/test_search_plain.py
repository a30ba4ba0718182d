"""Networks written as plain PyTorch: what the source computes, and what cannot be written."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnc_search.networks import Junction
from dnc_search.networks_cnn import ConvLayer, ConvPlan
from dnc_search.plain import SCOPE, PlainNetwork, plain_network
from dnc_sparse.nn import SparseLinear, SparseMLP
from dnc_sparse.patterns import from_mask


def rebuilt(plain: PlainNetwork) -> nn.Module:
    scope: dict[str, Any] = dict(SCOPE)
    exec(plain.source, scope)
    network: nn.Module = scope["Network"]()
    network.load_state_dict(plain.state)
    return network


class Residual(nn.Module):
    """Branches that join again, an activation used twice, functions between the modules."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"a": nn.Conv2d(1, 4, 3, padding=1), "norm": nn.BatchNorm2d(4)})
        self.b = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.activation = nn.ReLU()
        self.head = SparseLinear(4, 2, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.body["norm"](self.body["a"](x.unflatten(1, (1, 6, 6)))))
        h = nn.functional.avg_pool2d(h + self.b(h), 2)
        y: Tensor = self.head(self.activation(h).mean((2, 3)))
        return y


def same_result(model: nn.Module, n_features: int) -> PlainNetwork:
    plain = plain_network(model, n_features)
    x = torch.randn(5, n_features, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rebuilt(plain).eval()(x), model.eval()(x))
    return plain


@pytest.mark.parametrize(
    "model",
    [
        SparseMLP((12, 8, 6, 4), (0.5, 1.0, 0.5)),
        SparseMLP((12, 8, 4), 0.5, activation=nn.Tanh, dropout=0.3),
        nn.Sequential(nn.Linear(12, 4)),
        nn.Sequential(SparseLinear(12, 4, pattern=from_mask(torch.eye(4, 12)), bias=False)),
    ],
)
def test_a_network_is_rebuilt_with_its_weights(model: nn.Module) -> None:
    same_result(model, 12)


def test_branches_and_functions_are_written_too() -> None:
    assert same_result(Residual(), 36).sparse


def test_convolutions_with_shortcuts_are_written() -> None:
    layers = tuple(
        ConvLayer(channels, downsampling, dropout=0.1, shortcut=shortcut)
        for channels, downsampling, shortcut in (
            *((4, "", True), (6, "stride", False), (6, "pool", True)),
            *((8, "stride", False), (9, "", False)),
        )
    )
    same_result(ConvPlan((2, 5, 3), layers, Junction(9, 3), "relu").build(0), 30)


def test_a_dense_network_needs_no_package_of_ours() -> None:
    plain = plain_network(nn.Sequential(nn.Linear(12, 4), nn.ReLU()), 12)
    assert not plain.sparse
    assert "Sparse" not in plain.source


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_branch_on_values_cannot_be_written() -> None:
    with pytest.raises(ValueError, match=r"^Branching cannot be written as plain PyTorch .*; give"):
        plain_network(Branching(), 4)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_a_parameter_outside_of_a_module_cannot_be_written() -> None:
    text = (
        r"^the network reads 'scale' outside of a module and cannot be written as plain PyTo.*; put"
    )
    with pytest.raises(ValueError, match=text):
        plain_network(Scaled(), 4)


def test_what_computes_something_else_is_found() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    model[1].__class__ = type("Dropout", (nn.Dropout,), {"forward": lambda self, x: 2 * x})
    model[1].__class__.__module__ = "torch.nn.modules.dropout"
    with pytest.raises(ValueError, match=r"^Sequential computes something else when it is rebuilt"):
        plain_network(model, 4)

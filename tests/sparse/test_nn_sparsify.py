"""sparsify: which layers of a model become sparse, which stay, why, and what still works."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dnc_sparse.nn import Report, SparseLinear, conversion_report, sparsify


class Nested(nn.Module):
    """Linear layers at two depths, one used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 64))
        self.head = nn.Linear(64, 32)
        self.again = self.head

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(x)) + self.again(x)
        return y


class Tied(nn.Module):
    """A language model's embedding and output layer with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 32)
        self.out = nn.Linear(32, 64)
        self.out.weight = self.embed.weight


def notes(report: Report) -> dict[str, str]:
    return {row.names[0]: row.note for row in report.rows}


def test_replaces_every_layer_in_place_and_reports_it() -> None:
    model = Nested()
    report = conversion_report(sparsify(model, 0.25))
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    assert kinds["body.0"] == kinds["body.2"] == kinds["head"] == "SparseLinear"
    assert model.again is model.head
    assert [row.names for row in report.rows] == [("body.0",), ("body.2",), ("head", "again")]
    assert all((row.asked, row.density, row.replaced) == (0.25, 0.25, True) for row in report.rows)
    assert (report.weights_before, report.weights_after) == (3 * 2048, 3 * 512)
    assert model(torch.randn(5, 64)).shape == (5, 32)


def test_report_is_an_aligned_table() -> None:
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 4))
    report = conversion_report(sparsify(model, 0.25))
    assert str(report).splitlines() == [
        "layer  inputs -> outputs  asked  density  weights  what was done",
        "0      64 -> 32            0.25     0.25      512  clash_free 4x4, fan_in 16, fan_out 8",
        "1      32 -> 4                -        1      128  "
        "left dense: 128 weights, fewer than min_size=1,024",
        "total                             0.2941      640  1 of 2 layers replaced",
        "2,176 weights in linear layers became 640",
    ]
    assert repr(report) == str(report)


def test_report_of_a_model_without_linear_layers() -> None:
    with pytest.warns(UserWarning, match=r"^sparsify replaced no layer: the model has no"):
        report = conversion_report(sparsify(nn.Sequential(nn.ReLU()), 0.5))
    assert report.rows == ()
    assert str(report).endswith("0 weights in linear layers became 0")


def test_patterns_differ_between_layers_and_follow_the_seed() -> None:
    def patterns(seed: int, **choice: Any) -> list[Any]:
        model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
        sparsify(model, 0.25, seed=seed, **choice)
        return [getattr(layer, "pattern", None) for layer in model]

    assert patterns(1) == patterns(1)
    assert patterns(1)[0] != patterns(1)[1]
    assert patterns(1)[1] != patterns(2)[1]
    # leaving one layer out does not change another
    assert patterns(1, skip=["0"])[1] == patterns(1)[1]


def test_keeps_what_the_layer_was() -> None:
    model = nn.Sequential(
        nn.Linear(64, 32, bias=False, dtype=torch.float64), nn.Linear(32, 32, device="meta")
    ).eval()
    model[0].weight.requires_grad_(False)
    sparsify(model, 0.5)
    assert model[0].bias is None
    assert model[0].weight.dtype == torch.float64
    assert not model[0].weight.requires_grad
    assert not model[0].training
    assert model[1].weight.is_meta


def test_keeping_weights_takes_them_from_the_dense_layer() -> None:
    model = nn.Sequential(nn.Linear(64, 32))
    dense = copy.deepcopy(model[0])
    fresh = copy.deepcopy(model)
    sparsify(model, 0.5, keep_weights=True)
    mask = torch.from_numpy(model[0].pattern.mask())
    assert torch.equal(model[0].to_dense().weight, dense.weight * mask)
    assert torch.equal(model[0].bias, dense.bias)
    torch.manual_seed(3)
    sparsify(fresh, 0.5, init_fan_in="dense")
    assert not torch.equal(fresh[0].bias, dense.bias)
    assert fresh[0].weight.abs().max() <= 1 / 8


def test_skip_by_name_by_module_and_by_function() -> None:
    def kept(skip: Any) -> list[str]:
        report = conversion_report(sparsify(Nested(), 0.25, skip=skip))
        return [row.names[0] for row in report.rows if row.note == "left dense: skipped, as asked"]

    assert kept(["body.0"]) == ["body.0"]
    assert kept("body") == ["body.0", "body.2"]
    assert kept({"again", "body.2"}) == ["body.2", "head"]
    assert kept(lambda name, layer: layer.out_features == 32) == ["body.0", "head"]


def test_left_dense_with_the_reason() -> None:
    model = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(64, 2),
            "normed": nn.utils.parametrizations.weight_norm(nn.Linear(64, 32)),
            "hooked": nn.Linear(64, 32),
            "odd": nn.Linear(63, 32),
            "lazy": nn.LazyLinear(32),
            "small": nn.Linear(32, 16),
        }
    )
    model["hooked"].register_forward_hook(lambda module, args, output: None)
    with pytest.warns(UserWarning, match="^sparsify replaced no layer: .*; and 3 more$"):
        report = conversion_report(sparsify(model, 0.5, block=4))
    assert notes(report) == {
        "attention.out_proj": "left dense: nn.MultiheadAttention reads its weight directly",
        "normed": "left dense: a ParametrizedLinear may rely on its dense weight",
        "hooked": "left dense: it has hooks, which would be lost (1 in its forward hooks)",
        "odd": "left dense: block 4x4 does not divide it",
        "lazy": "left dense: a LazyLinear may rely on its dense weight",
        "small": "left dense: 512 weights, fewer than min_size=1,024",
    }
    assert str(report)


def test_tied_weights_are_left() -> None:
    model = Tied()
    reason = "left dense: its parameters are shared with 'embed'"
    with pytest.warns(UserWarning, match=f"^sparsify replaced no layer: 'out' {reason}"):
        assert notes(conversion_report(sparsify(model, 0.5))) == {"out": reason}
    assert model.out.weight is model.embed.weight


def test_density_one_is_left_dense() -> None:
    with pytest.warns(UserWarning, match="^sparsify replaced no layer: '0' left dense: density 1"):
        report = conversion_report(sparsify(nn.Sequential(nn.Linear(64, 32)), 1))
    assert notes(report) == {"0": "left dense: density 1, for which dense arithmetic is faster"}


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("budget", [1000, 3001, 6000])
def test_budget_is_used_up_but_never_exceeded(budget: int, block: int) -> None:
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 128), nn.Linear(128, 16))
    report = conversion_report(sparsify(model, budget=budget, block=block))
    least_step = min(row.n_out * block for row in report.rows)
    assert budget - least_step < report.weights_after <= budget
    densities = [row.density for row in report.rows]
    assert max(densities) - min(densities) <= 2 * block / 32


def test_second_call_leaves_sparse_layers_alone() -> None:
    model = Nested()
    sparsify(model, 0.25)
    state = copy.deepcopy(model.state_dict())
    text = "^sparsify replaced no layer: 'body.0' sparse already.*; layers that are sparse keep th"
    with pytest.warns(UserWarning, match=text):
        report = conversion_report(sparsify(model, 0.5))
    assert notes(report)["head"] == "sparse already: clash_free 4x4, fan_in 16, fan_out 8"
    assert report.replaced == ()
    assert report.weights_before == report.weights_after == 3 * 512
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "give exactly one of density, budget, pattern and masks; got none"),
    (
        {"density": 0.5, "budget": 9},
        "give exactly one of density, budget, pattern and masks; got density=0.5 and budget=9",
    ),
    ({"density": 1.5}, "density must lie in (0, 1], got 1.5"),
    ({"density": 0}, "density must lie in (0, 1], got 0"),
    (
        {"budget": 127},
        "a budget of 127 weights is too small: 3 layers with one block per row need 128; "
        "raise the budget, or skip layers",
    ),
    (
        {"density": 0.5, "skip": ["tail"]},
        "skip names no linear layer: 'tail'; linear layers: body.0, body.2, head, again",
    ),
    ({"density": 0.5, "family": "magic"}, "layer 'body.0': unknown pattern family 'magic';"),
    ({"density": 0.5, "block": 0}, "block 0x0 must have sides of at least 1"),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED)
def test_refuses_and_changes_nothing(arguments: dict[str, Any], text: str) -> None:
    model = Nested()
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(ValueError, match="^" + re.escape(text)):
        sparsify(model, **arguments)
    assert [type(module) for module in model.modules()] == kinds


def test_refuses_a_family_that_cannot_keep_to_the_budget() -> None:
    model = nn.Sequential(nn.Linear(50, 21), nn.Linear(40, 30))
    with (
        pytest.warns(UserWarning, match="^density .* becomes"),
        pytest.raises(ValueError, match=r"^'clash_free' patterns near the budget of 100 weights"),
    ):
        sparsify(model, budget=100, family="clash_free")
    assert not any(isinstance(module, SparseLinear) for module in model)


def test_refuses_a_bare_layer() -> None:
    with pytest.raises(ValueError, match=r"^the model is itself an nn.Linear, .* use SparseLinear"):
        sparsify(nn.Linear(64, 32), 0.5)


def test_a_plain_network_trains() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)
    )
    sparsify(model, 0.25)
    x = torch.randn(256, 32)
    y = (x[:, :8].sum(1) > 0).long()
    losses = fall(model, lambda: nn.functional.cross_entropy(model(x), y))
    assert losses[-1] < 0.5 * losses[0]


def fall(model: nn.Module, loss_of: Callable[[], Tensor], steps: int = 30) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_skip_none_skips_nothing_and_globs_fit() -> None:
    def kept(skip: Any) -> list[str]:
        report = conversion_report(sparsify(Nested(), 0.25, skip=skip))
        return [row.names[0] for row in report.rows if row.note == "left dense: skipped, as asked"]

    assert kept(None) == kept([]) == []
    assert kept("body.*") == kept(["b*y"]) == ["body.0", "body.2"]
    assert kept(["*.2", "ag?in"]) == ["body.2", "head"]


@pytest.mark.parametrize(
    ("skip", "text"),
    [
        (4, "skip takes names, globs, a function of (name, layer), or None; got 4 (int)"),
        ([0], "skip holds 0 (int), which is no name; write names as model.named_modules() gives"),
    ],
)
def test_skip_of_a_wrong_type_is_named(skip: Any, text: str) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(text)):
        sparsify(Nested(), 0.25, skip=skip)


def test_densities_by_name_and_glob() -> None:
    model = Nested()
    report = conversion_report(sparsify(model, {"body.*": 0.5, "body.2": 0.125}))
    assert [(row.asked, row.density) for row in report.rows] == [
        (0.5, 0.5),
        (0.125, 0.125),
        (None, 1),
    ]
    assert notes(report)["head"] == "left dense: no density is asked for it"
    assert conversion_report(sparsify(model, {"again": 0.25, "*": 0.5})).rows[2].asked == 0.25


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"density": "abc"}, TypeError, "density must be a number in (0, 1], such as 0.25; got 'abc'"),
    ({"density": torch.tensor(0.5)}, TypeError, "density must be a number in (0, 1], such as 0.25"),
    ({"density": True}, TypeError, "density must be a number in (0, 1], such as 0.25; got True"),
    ({"density": [0.5]}, TypeError, "density must be a number in (0, 1], such as 0.25; got [0.5]"),
    ({"density": float("nan")}, ValueError, "density must lie in (0, 1], got nan"),
    ({"density": -0.1}, ValueError, "density must lie in (0, 1], got -0.1"),
    ({"density": {"head": None}}, TypeError, "density of 'head' must be a number in (0, 1]"),
    ({"density": {"head": 2}}, ValueError, "density of 'head' must lie in (0, 1], got 2"),
    ({"density": {0: 0.5}}, TypeError, "density has a key 0 (int), no name"),
    ({"density": {"tail": 0.5}}, ValueError, "density names no linear layer: 'tail'; linear lay"),
    ({"budget": 1e4}, TypeError, "budget must be a whole number, got 10000.0 (float)"),
    ({"budget": True}, TypeError, "budget must be a whole number, got True (bool)"),
    ({"density": 0.5, "seed": "a"}, TypeError, "seed must be a whole number, got 'a' (str)"),
    ({"density": 0.5, "dense_above": 2}, ValueError, "dense_above must lie in (0, 1], got 2"),
    ({"density": 0.5, "min_size": "1"}, TypeError, "min_size must be a whole number, got '1'"),
]


@pytest.mark.parametrize(("arguments", "kind", "text"), WRONG)
def test_arguments_of_a_wrong_kind_are_named(
    arguments: dict[str, Any], kind: type[Exception], text: str
) -> None:
    model = Nested()
    with pytest.raises(kind, match="^" + re.escape(text)):
        sparsify(model, **arguments)
    assert not any(isinstance(module, SparseLinear) for module in model.modules())


def test_numbers_of_numpy_are_numbers() -> None:
    assert conversion_report(sparsify(Nested(), np.float32(0.25))).rows[0].asked == 0.25
    assert conversion_report(sparsify(Nested(), budget=np.int64(2000))).weights_after <= 2000


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^sparsify takes a model, .* in place; got a Report$"):
        sparsify(conversion_report(sparsify(Nested(), 0.25)), 0.5)  # type: ignore[type-var]
    with pytest.raises(ValueError, match=r"^the model is itself a SparseLinear; build one of ano"):
        sparsify(SparseLinear(64, 64, 0.25), 0.5)


class Mixed(nn.Module):
    """Modules with weights of every kind, one of them with bare parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 64)
        self.lstm = nn.LSTM(16, 16)
        self.conv = nn.Conv2d(4, 8, 3)
        self.pair = nn.Bilinear(4, 4, 8)
        self.attention = nn.MultiheadAttention(16, 2)
        self.norm = nn.LayerNorm(64)
        self.experts = nn.Parameter(torch.zeros(4, 16, 16))
        self.parts = nn.ParameterList([torch.zeros(2, 8), torch.zeros(3)])


def test_the_report_names_what_was_not_looked_at_with_its_share() -> None:
    report = conversion_report(sparsify(Mixed(), 0.25))
    assert [(o.name, o.kind, o.weights) for o in report.others] == [
        ("lstm", "LSTM", 2 * 4 * 16 * 16),
        ("(the model)", "Mixed", 4 * 16 * 16),
        ("attention", "MultiheadAttention", 3 * 16 * 16),
        ("conv", "Conv2d", 8 * 4 * 9),
        ("pair", "Bilinear", 8 * 4 * 4),
        ("parts", "ParameterList", 16),
    ]
    total = 64 * 64 + 16 * 16 + sum(o.weights for o in report.others)
    assert [o.share for o in report.others] == [o.weights / total for o in report.others]
    assert str(report).splitlines()[-7:-4] == [
        "not looked at  class               weights  of all",
        f"lstm           LSTM                  2,048   {2048 / total:.1%}",
        f"(the model)    Mixed                 1,024   {1024 / total:.1%}",
    ]


def test_tied_and_parametrized_weights_are_counted_once() -> None:
    model = Tied()
    model.normed = nn.utils.parametrizations.weight_norm(nn.Linear(64, 32))  # type: ignore[assignment]
    model.fc = nn.Linear(64, 64)  # type: ignore[assignment]
    assert conversion_report(sparsify(model, 0.25)).others == ()

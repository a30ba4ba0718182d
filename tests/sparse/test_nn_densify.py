"""The way back and the way again: densify, and sparsify_like a checkpoint."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnc_sparse import SparseLinear, SparseMLP, conversion_report, densify, sparsify, sparsify_like
from dnc_sparse.nn.state import encode_pattern
from dnc_sparse.patterns import from_mask, random


class Model(nn.Module):
    """Layers at two depths, one used twice, one in half precision, an embedding beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 64)
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64, bias=False))
        self.head = nn.Linear(64, 32)
        self.again = self.head

    def forward(self, ids: Tensor) -> Tensor:
        x = self.body(self.embed(ids))
        y: Tensor = self.head(x) + self.again(x)
        return y


IDS = torch.arange(8).view(2, 4)


def test_densify_gives_linear_layers_with_the_same_outputs() -> None:
    model = Model().eval()
    sparsify(model, 0.25)
    model.head.weight.requires_grad_(False)
    expected = model(IDS)
    masks = {n: m.pattern.mask() for n, m in model.named_modules() if isinstance(m, SparseLinear)}
    report = conversion_report(densify(model))
    assert [row.names for row in report.rows] == [("body.0",), ("body.2",), ("head", "again")]
    assert all((row.replaced, row.note) == (True, "nn.Linear") for row in report.rows)
    assert str(report).splitlines()[-4:] == [
        "total                                         1   10,240  3 of 3 layers made dense",
        "2,560 weights in linear layers became 10,240",
        "not looked at  class      weights  of all",
        "embed          Embedding      640   20.0%",
    ]
    torch.testing.assert_close(model(IDS), expected)
    for name, mask in masks.items():
        layer = model.get_submodule(name)
        assert type(layer) is nn.Linear
        assert torch.equal(layer.weight != 0, torch.from_numpy(mask))
    assert model.again is model.head
    assert not model.head.weight.requires_grad
    assert not model.head.training
    assert not any(isinstance(module, SparseLinear) for module in model.modules())
    # and back
    sparsify(model, pattern="nonzero")
    torch.testing.assert_close(model(IDS), expected)


@pytest.mark.parametrize("block", [1, 4])
def test_uneven_rows_and_blocks_come_back(block: int) -> None:
    mask = torch.rand(16, 8) < 0.3
    pattern = from_mask(mask.repeat_interleave(block, 0).repeat_interleave(block, 1), block)
    model = nn.Sequential(SparseLinear(8 * block, 16 * block, pattern=pattern, dtype=torch.double))
    x = torch.randn(3, 8 * block, dtype=torch.double)
    expected = model(x)
    densify(model)
    torch.testing.assert_close(model(x), expected)


def test_relu_gets_a_module_of_its_own() -> None:
    model = nn.Sequential(SparseLinear(64, 64, 0.25, relu=True), SparseLinear(64, 8, 0.25))
    x = torch.randn(9, 64)
    expected = model(x)
    report = conversion_report(densify(model))
    assert [row.note for row in report.rows] == ["nn.Linear and nn.ReLU", "nn.Linear"]
    assert [type(m) for m in model[0]] == [nn.Linear, nn.ReLU]
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_a_sparse_mlp_applies_its_activation_again(activation: Any) -> None:
    net = SparseMLP((64, 64, 64, 8), density=0.25, activation=activation)
    model = nn.ModuleDict({"net": net, "part": net.junctions[0]})
    x = torch.randn(9, 64)
    expected, part = net(x), net.junctions[0](x)
    densify(model)
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(model["part"](x), part)
    alone = SparseMLP((64, 64, 8), density=0.25)
    expected = alone(x)
    report = conversion_report(densify(alone))
    assert all(row.note == "nn.Linear" for row in report.rows)
    torch.testing.assert_close(alone(x), expected)


def test_an_optimiser_goes_back_too() -> None:
    model = Model()
    sparsify(model, 0.25)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    twin = copy.deepcopy(model)
    other = torch.optim.AdamW(twin.parameters(), 0.01)
    for net, opt in ((model, optimizer), (twin, other)):
        net(IDS).square().sum().backward()
        opt.step()
    with pytest.raises(RuntimeError, match=r"^an optimiser \(AdamW\) was built before and holds"):
        densify(model)
    mask = torch.from_numpy(model.head.pattern.mask())
    densify(model, optimizer=optimizer)
    for net, opt in ((model, optimizer), (twin, other)):
        opt.zero_grad()
        net(IDS).square().sum().backward()
        opt.step()
    torch.testing.assert_close(model.head.weight * mask, twin.head.to_dense().weight)


def test_densify_refuses_what_it_cannot_change() -> None:
    with pytest.raises(ValueError, match=r"^the model is itself a SparseLinear, .* model.to_dense"):
        densify(SparseLinear(64, 64, 0.25))
    with pytest.raises(TypeError, match=r"^densify takes a model, an nn.Module; got a Report"):
        densify(conversion_report(sparsify(Model(), 0.25)))  # type: ignore[type-var]


def saved(tmp_path: Path, **choice: Any) -> tuple[Model, dict[str, Any]]:
    model = Model()
    sparsify(model, **{"density": 0.25, "seed": 3, **choice})
    torch.save(model.state_dict(), tmp_path / "state.pt")
    return model, torch.load(tmp_path / "state.pt")


def test_a_checkpoint_makes_a_dense_model_sparse(tmp_path: Path) -> None:
    first, state = saved(tmp_path, skip=["body.2"])
    model = Model().eval()
    report = conversion_report(sparsify_like(model, state))
    assert [row.names[0] for row in report.replaced] == ["body.0", "head"]
    assert report.rows[1].note == "left dense: the state has dense weights for it"
    assert model.again is model.head
    assert not model.head.training
    assert torch.equal(model(IDS), first.eval()(IDS))
    assert model.head.pattern.digest == first.head.pattern.digest


def test_layers_of_another_pattern_are_exchanged_and_of_the_same_stay(tmp_path: Path) -> None:
    first, state = saved(tmp_path)
    model = Model()
    sparsify(model, 0.5, skip=["head"])
    sparsify(model, 0.25, seed=3, skip=["body"])
    head = model.head
    report = conversion_report(sparsify_like(model, state))
    assert [row.names[0] for row in report.replaced] == ["body.0", "body.2"]
    assert report.rows[2].note.startswith("sparse already: clash_free")
    assert model.head is head
    assert torch.equal(model(IDS), first(IDS))


def test_relu_of_a_sparse_layer_stays_with_it() -> None:
    first = nn.Sequential(SparseLinear(64, 64, 0.25, relu=True, seed=1))
    model = nn.Sequential(SparseLinear(64, 64, 0.5, relu=True))
    sparsify_like(model, first.state_dict())
    x = torch.randn(4, 64)
    assert torch.equal(model(x), first(x))


def test_an_optimiser_follows_a_checkpoint(tmp_path: Path) -> None:
    _, state = saved(tmp_path)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(RuntimeError, match=r"^an optimiser \(SGD\) was built before"):
        sparsify_like(model, state)
    sparsify_like(model, state, optimizer=optimizer)
    held = {id(p) for p in optimizer.param_groups[0]["params"]}
    assert held == {id(p) for p in model.parameters()}


def test_a_state_without_patterns_is_refused() -> None:
    model = Model()
    with pytest.raises(ValueError, match=r"^the state records no pattern \(no entry ..._extra_st"):
        sparsify_like(model, model.state_dict())
    # extra state of another library
    state = {**model.state_dict(), "head._extra_state": torch.zeros(4, dtype=torch.uint8)}
    with pytest.raises(ValueError, match=r"^the state records no pattern"):
        sparsify_like(model, state)


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    _, state = saved(tmp_path)
    kinds = [type(module) for module in Model().modules()]

    def refused(model: nn.Module, state: dict[str, Any], error: type[Exception], text: str) -> None:
        before = [type(module) for module in model.modules()]
        with pytest.raises(error, match="^" + text):
            sparsify_like(model, state)
        assert [type(module) for module in model.modules()] == before

    other = Model()
    other.head = other.again = nn.Linear(64, 16)
    text = r"the state has a sparse layer 'head' of 64 -> 32, the model's is 64 -> 16; build the"
    refused(other, state, ValueError, text)
    del (other := Model()).body
    refused(other, state, ValueError, r"the state has a sparse layer 'body.0', which is no linear")
    wrapped = {f"module.{key}": value for key, value in state.items()}
    text = r"the state has a sparse layer 'module.body.0', .*; every entry begins with 'module.', "
    refused(Model(), wrapped, ValueError, text + r"as a wrapper saves it: strip that, \{key.remove")
    (other := Model()).head.register_forward_hook(lambda *args: None)
    text = r"the state has a sparse layer 'head', which stays dense here: it has hooks"
    refused(other, state, ValueError, text)
    damaged = {**state, "head._extra_state": torch.zeros(4, dtype=torch.uint8)}
    refused(Model(), damaged, ValueError, r"layer 'head' of the state: the pattern record of 4 b")
    missing = {key: value for key, value in state.items() if key != "body.0.bias"}
    refused(Model(), missing, RuntimeError, r"Error\(s\) in loading state_dict for Model:\s+Mis")
    assert kinds == [type(module) for module in Model().modules()]


def test_a_spec_that_rebuilds_to_other_edges_is_refused(tmp_path: Path) -> None:
    _, state = saved(tmp_path)
    pattern = random(64, 32, density=0.25, seed=0)
    record = json.loads(bytes(encode_pattern(pattern).tolist()))
    record["digest"] = "0" * 16
    forged = torch.frombuffer(bytearray(json.dumps(record).encode()), dtype=torch.uint8)
    for name in ("head", "again"):
        state[f"{name}._extra_state"] = forged
    text = "^layer 'head' of the state: the recorded spec random.* rebuilds to other edges"
    with pytest.raises(ValueError, match=text):
        sparsify_like(Model(), state)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^sparsify_like takes a model, an nn.Module; got a d"):
        sparsify_like({}, {})  # type: ignore[type-var]


def test_layers_without_values_are_converted_both_ways() -> None:
    with torch.device("meta"):
        for choice in ({"density": 0.25}, {"density": 0.25, "keep_weights": True}):
            model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64, bias=False))
            assert len(conversion_report(sparsify(model, **choice)).replaced) == 2
            assert model[0].weight.is_meta
            densify(model)
            assert [type(m) for m in model] == [nn.Linear, nn.Linear]
            assert model[0].weight.is_meta
            assert model[1].bias is None
        model = nn.Sequential(nn.Linear(64, 64))
        sparsify(model, masks={"0": [[1.0] + [0.0] * 63] * 64})
    assert model[0].weight.shape == (64, 1, 1, 1)

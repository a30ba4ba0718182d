"""Models that are pruned or masked already become sparse in one call, with the same outputs."""

from __future__ import annotations

import copy
import re
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torchvision_ops import declare

from dnc_sparse.nn import Report, SparseLinear, conversion_report, densify, sparsify
from dnc_sparse.nn.init import kaiming_normal_

# transformers imports torchvision where it is installed
declare()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.Linear(32, 64))


def zero_some(model: nn.Module, density: float) -> None:
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(torch.rand_like(layer.weight) < density)


def notes(report: Report) -> dict[str, str]:
    return {row.names[0]: row.note for row in report.rows}


def assert_same_outputs(model: nn.Module, dense: nn.Module, width: int = 64) -> None:
    x = torch.randn(5, width)
    torch.testing.assert_close(model(x), dense(x))


def test_nonzero_weights_become_the_pattern() -> None:
    model = network()
    zero_some(model, 0.2)
    dense = copy.deepcopy(model)
    report = conversion_report(sparsify(model, pattern="nonzero"))
    assert len(report.replaced) == 3
    for name in ("0", "2", "3"):
        expected = dense.get_submodule(name).weight
        layer = model.get_submodule(name)
        assert torch.equal(torch.from_numpy(layer.pattern.mask()), expected != 0)
        assert torch.equal(layer.to_dense().weight, expected)
        assert torch.equal(layer.bias, dense.get_submodule(name).bias)
    assert report.weights_after == sum(
        int((p != 0).sum()) for p in dense.parameters() if p.dim() > 1
    )
    assert_same_outputs(model, dense)


def test_blocks_with_one_nonzero_weight_are_whole() -> None:
    model = network()
    zero_some(model, 0.02)
    dense = copy.deepcopy(model)
    sparsify(model, pattern="nonzero", block=(4, 2))
    assert model[0].pattern.block == (4, 2)
    assert model[0].n_edges > int((dense[0].weight != 0).sum())
    assert_same_outputs(model, dense)


def test_layers_with_too_few_zeros_or_no_weight_stay() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[:, ::4] = 0
        model[2].weight.zero_()
    with pytest.warns(UserWarning, match="^sparsify replaced no layer"):
        report = conversion_report(sparsify(model, pattern="nonzero"))
    assert notes(report) == {
        "0": "left dense: 0.75 of its weights are nonzero, more than dense_above=0.5",
        "2": "left dense: all its weights are zero",
        "3": "left dense: none of its weights is zero",
    }
    again = sparsify(model, pattern="nonzero", dense_above=0.8)
    assert conversion_report(again).replaced[0].names == ("0",)


def test_masks_of_torch_prune_are_taken_over() -> None:
    model = network()
    prune.l1_unstructured(model[0], "weight", 0.8)
    prune.random_unstructured(model[2], "weight", 0.5)
    prune.l1_unstructured(model[2], "weight", 0.5)
    prune.random_unstructured(model[3], "bias", 0.5)
    with torch.no_grad():
        # an edge whose weight is zero for now is one all the same
        row, column = model[0].weight_mask.nonzero()[0]
        model[0].weight_orig[row, column] = 0
    x = torch.randn(5, 64)
    masks = {name: model.get_submodule(name).weight_mask.bool() for name in ("0", "2")}
    expected = model(x)
    report = conversion_report(sparsify(model, pattern="nonzero"))
    for name, mask in masks.items():
        layer = model.get_submodule(name)
        assert torch.equal(torch.from_numpy(layer.pattern.mask()), mask)
        assert set(dict(layer.named_parameters())) == {"weight", "bias"}
    assert notes(report)["3"].startswith("left dense: it has hooks, which would be lost")
    torch.testing.assert_close(model(x), expected)


def test_an_optimiser_of_a_pruned_model_is_handed_over() -> None:
    model = network()
    prune.l1_unstructured(model[0], "weight", 0.8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(RuntimeError, match=r"^an optimiser \(SGD\) was built before"):
        sparsify(model, pattern="nonzero")
    sparsify(model, pattern="nonzero", optimizer=optimizer)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {
        id(p) for p in model.parameters()
    }


@pytest.mark.parametrize("suffix", ["", ".weight"])
def test_masks_by_name_keep_the_weights_on_them(suffix: str) -> None:
    model = network()
    dense = copy.deepcopy(model)
    masks: dict[str, Any] = {
        f"0{suffix}": torch.rand(128, 64) < 0.1,
        f"2{suffix}": np.random.default_rng(0).integers(0, 2, (32, 128)),
    }
    report = conversion_report(sparsify(model, masks=masks))
    with torch.no_grad():
        for name, mask in masks.items():
            weight = dense.get_submodule(name.removesuffix(".weight")).weight
            weight.mul_(torch.as_tensor(mask))
    assert notes(report)["3"] == "left dense: no mask is given for it"
    assert len(report.replaced) == 2
    assert_same_outputs(model, dense)


def test_a_mask_makes_small_layers_sparse_too() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    report = conversion_report(sparsify(model, masks={"0": torch.eye(4), "1": torch.ones(4, 4)}))
    assert [row.replaced for row in report.rows] == [True, False]
    assert notes(report)["1"] == (
        "left dense: its mask has every edge, for which dense arithmetic is faster"
    )


def test_a_mask_can_get_new_weights() -> None:
    model = network()
    before = model[0].weight.detach().clone()
    mask = torch.rand(128, 64) < 0.25
    sparsify(model, masks={"0": mask}, keep_weights=False)
    assert torch.equal(torch.from_numpy(model[0].pattern.mask()), mask)
    assert not torch.equal(model[0].to_dense().weight, before * mask)


@pytest.mark.parametrize("mask", ["abc", None, object()])
def test_a_mask_that_is_none_is_refused(mask: Any) -> None:
    with pytest.raises(TypeError, match=r"^the mask of '0' is no tensor or array of numbers but"):
        sparsify(network(), masks={"0": mask})


MASKS: list[tuple[dict[str, Any], str]] = [
    ({"tail": torch.ones(1)}, "masks names no linear layer: 'tail'; linear layers: 0, 2, 3"),
    (
        {"0": torch.ones(64, 128)},
        "the mask of '0' has shape [64, 128], its weight [128, 64]; give one entry per weight",
    ),
    ({"0": torch.rand(128, 64)}, "the mask of '0' has other values than 0 and 1; write mask ="),
    ({"0": torch.full((128, 64), torch.nan)}, "the mask of '0' has other values than 0 and 1"),
    ({"0": torch.zeros(128, 64)}, "the mask of '0' has no edge; set one at least, or skip"),
    (
        {"0": torch.eye(128, 64), "0.weight": torch.eye(128, 64)},
        "masks has two masks for layer '0'; give one",
    ),
]


@pytest.mark.parametrize(("masks", "text"), MASKS)
def test_masks_that_do_not_fit_are_refused(masks: dict[str, Any], text: str) -> None:
    model = network()
    with pytest.raises(ValueError, match="^" + re.escape(text)):
        sparsify(model, masks=masks)
    assert not any(isinstance(m, SparseLinear) for m in model)


def test_a_mask_for_a_layer_that_must_stay_dense_is_refused() -> None:
    model = network()
    model[0].register_forward_hook(lambda *args: None)
    text = "^masks has a mask for '0', which cannot become sparse: it has hooks, .* take the mask"
    with pytest.raises(ValueError, match=text):
        sparsify(model, masks={"0": torch.eye(128, 64)})
    with pytest.raises(ValueError, match=r"^masks has a mask for '2', .*: skipped, as asked; "):
        sparsify(model, masks={"2": torch.eye(32, 128)}, skip="2")
    with pytest.raises(ValueError, match=r"^layer '2': block \(0, 0\) of the mask has 2 of"):
        sparsify(model, masks={"2": torch.eye(32, 128)}, block=2)


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^pattern takes 'nonzero', .* got 'zeros'. Families are"):
        sparsify(network(), pattern="zeros")
    with pytest.raises(TypeError, match=r"^masks must map names of layers to masks, got a list"):
        sparsify(network(), masks=[torch.eye(4)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^give exactly one of .*; got density=0.5 and pattern="):
        sparsify(network(), 0.5, pattern="nonzero")
    with pytest.raises(ValueError, match=r"^layer '0': its weight is on the meta device and has"):
        sparsify(network().to("meta"), pattern="nonzero")


class Conv1D(nn.Module):
    """The layer of GPT-2 as transformers writes it."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.randn(nx, nf) * 0.02)
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        size = (*x.size()[:-1], self.nf)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(size)


@pytest.fixture
def conv1d(monkeypatch: pytest.MonkeyPatch) -> type[nn.Module]:
    """Put the class where transformers has it."""
    module = ModuleType("transformers.pytorch_utils")
    module.Conv1D = Conv1D  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers.pytorch_utils", module)
    return Conv1D


def test_conv1d_keeps_its_weights_on_the_edges(conv1d: type[nn.Module]) -> None:
    model = nn.Sequential(conv1d(96, 64), nn.Tanh(), conv1d(64, 96))
    dense: Any = copy.deepcopy(model)
    report = conversion_report(sparsify(model, 0.25, keep_weights=True))
    assert [(row.n_in, row.n_out, row.replaced) for row in report.rows] == [
        (64, 96, True),
        (96, 64, True),
    ]
    with torch.no_grad():
        for mine, theirs in ((model[0], dense[0]), (model[2], dense[2])):
            theirs.weight.mul_(torch.from_numpy(mine.pattern.mask()).T)
    x = torch.randn(2, 7, 64)
    torch.testing.assert_close(model(x), dense(x))
    densify(model)
    assert type(model[0]) is nn.Linear
    torch.testing.assert_close(model(x), dense(x))


def test_conv1d_by_nonzero_by_mask_and_with_its_optimiser(conv1d: type[nn.Module]) -> None:
    model: Any = nn.Sequential(conv1d(96, 64), conv1d(32, 96))
    mask = torch.rand(96, 32) < 0.1
    with torch.no_grad():
        model[0].weight.mul_(torch.rand(64, 96) < 0.1)
    dense = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    other = torch.optim.SGD(dense.parameters(), 0.1, momentum=0.9)
    x = torch.randn(5, 64)
    for net, opt in ((model, optimizer), (dense, other)):
        net(x).square().sum().backward()
        opt.step()
        opt.zero_grad()
    with torch.no_grad():
        for net in (model, dense):
            net[0].weight.mul_(mask.new_tensor(1).expand(64, 96) * (net[0].weight.abs() > 0.05))
    moments = other.state[dense[1].weight]["momentum_buffer"]
    sparsify(model, masks={"1": mask}, optimizer=optimizer)
    moved = optimizer.state[model[1].weight]["momentum_buffer"]
    layer = copy.deepcopy(model[1])
    with torch.no_grad():
        layer.weight.copy_(moved)
    assert torch.equal(layer.to_dense().weight, (moments * mask).T)
    sparsify(model, pattern="nonzero", optimizer=optimizer)
    with torch.no_grad():
        dense[1].weight.mul_(mask)
    assert_same_outputs(model, dense)


def test_a_bare_conv1d_is_refused(conv1d: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"^the model is itself a Conv1D, .* put it into an"):
        sparsify(conv1d(64, 64), 0.5)


def test_gpt2_of_transformers() -> None:
    try:
        from transformers import GPT2Config, GPT2Model
    except ImportError as error:
        pytest.skip(str(error))
    config = GPT2Config(n_layer=2, n_embd=64, n_head=4, vocab_size=99, n_positions=16)
    model = GPT2Model(config).eval()
    dense = copy.deepcopy(model)
    ids = torch.arange(10)[None]
    report = conversion_report(sparsify(model, 0.25, keep_weights=True, example={"input_ids": ids}))
    assert len(report.replaced) == 8
    for row in report.replaced:
        layer = model.get_submodule(row.names[0])
        with torch.no_grad():
            dense.get_submodule(row.names[0]).weight.mul_(torch.from_numpy(layer.pattern.mask()).T)
    expected = dense(ids).last_hidden_state
    torch.testing.assert_close(model(ids).last_hidden_state, expected, rtol=1e-4, atol=1e-5)


def test_rescaled_weights_keep_the_spread_of_sums() -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 256))
    kaiming_normal_(model, generator=generator)
    dense = copy.deepcopy(model[0])
    rows = torch.where(torch.arange(256) % 2 == 0, 0.5, 0.1)[:, None]
    mask = torch.rand(256, 512, generator=generator) < rows
    sparsify(model, masks={"0": mask}, rescale=True)
    scale = (512 / mask.sum(1, keepdim=True)).sqrt()
    torch.testing.assert_close(model[0].to_dense().weight, dense.weight * mask * scale)
    assert torch.equal(model[0].bias, dense.bias)
    with pytest.raises(ValueError, match=r"^rescale needs keep_weights=True: weights drawn anew"):
        sparsify(nn.Sequential(nn.Linear(64, 64)), 0.5, rescale=True)

"""sparsify drops nothing without a word: what hangs on a layer keeps it dense, or goes over."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnc_sparse.nn import SparseLinear, conversion_report, densify, sparsify


def layer() -> nn.Linear:
    return nn.Linear(64, 32)


def set_on_weight(name: str, value: Any) -> Callable[[nn.Linear], object]:
    return lambda linear: setattr(linear.weight, name, value)


class OwnParameter(nn.Parameter):
    """A parameter of one's own kind."""


def own_parameter(linear: nn.Linear) -> None:
    linear.weight = OwnParameter(linear.weight.detach())


def no_hook(*args: Any, **kwargs: Any) -> None:
    return None


HUNG: dict[str, tuple[Callable[[Any], object], str]] = {
    "forward hook": (lambda m: m.register_forward_hook(no_hook), "1 in its forward hooks"),
    "forward hook with kwargs": (
        lambda m: m.register_forward_hook(no_hook, with_kwargs=True),
        "1 in its forward hooks",
    ),
    "forward pre-hook": (
        lambda m: m.register_forward_pre_hook(no_hook),
        "1 in its forward pre hooks",
    ),
    "backward hook": (lambda m: m.register_full_backward_hook(no_hook), "1 in its backward hooks"),
    "backward pre-hook": (
        lambda m: m.register_full_backward_pre_hook(no_hook),
        "1 in its backward pre hooks",
    ),
    "state-dict hook": (
        lambda m: m.register_state_dict_post_hook(no_hook),
        "1 in its state dict hooks",
    ),
    "state-dict pre-hook": (
        lambda m: m.register_state_dict_pre_hook(no_hook),
        "1 in its state dict pre hooks",
    ),
    "load pre-hook": (
        lambda m: m.register_load_state_dict_pre_hook(no_hook),
        "1 in its load state dict pre hooks",
    ),
    "load post-hook": (
        lambda m: m.register_load_state_dict_post_hook(no_hook),
        "1 in its load state dict post hooks",
    ),
    "hook on weight": (lambda m: m.weight.register_hook(no_hook), "its weight has hooks"),
    "hook on bias": (lambda m: m.bias.register_hook(no_hook), "its bias has hooks"),
    "accumulation hook": (
        lambda m: m.weight.register_post_accumulate_grad_hook(no_hook),
        "its weight has hooks",
    ),
    "forward": (
        lambda m: setattr(m, "forward", MethodType(lambda self, x: x, m)),
        "its forward was replaced on this instance",
    ),
    "attribute": (lambda m: setattr(m, "scale", 2.0), "it has an attribute 'scale'"),
    "qconfig": (lambda m: setattr(m, "qconfig", None), "it has an attribute 'qconfig'"),
    "buffer": (lambda m: m.register_buffer("mask", torch.ones(1)), "it has a buffer 'mask'"),
    "parameter": (
        lambda m: m.register_parameter("gate", nn.Parameter(torch.ones(1))),
        "it has a parameter 'gate'",
    ),
    "module": (lambda m: m.add_module("adapter", nn.ReLU()), "it has a module 'adapter'"),
    "subclass of Parameter": (own_parameter, "its weight is a OwnParameter, no plain nn.Par"),
    "tensor on weight": (
        set_on_weight("main_grad", torch.zeros(32, 64)),
        "its weight has an attribute 'main_grad' (Tensor)",
    ),
    "function on weight": (
        set_on_weight("weight_loader", no_hook),
        "its weight has an attribute 'weight_loader' (function)",
    ),
    "weight_norm": (
        nn.utils.parametrizations.weight_norm,
        "a ParametrizedLinear may rely on its dense weight",
    ),
    "spectral_norm": (nn.utils.spectral_norm, "it has hooks"),
    "pruned": (
        lambda m: nn.utils.prune.l1_unstructured(m, "weight", 0.5),
        "torch.nn.utils.prune has masked it; pattern='nonzero' makes the mask its pattern",
    ),
    "another shape": (
        lambda m: setattr(m, "weight", nn.Parameter(torch.ones(16, 64))),
        "its weight has shape [16, 64], not [32, 64] as its sizes say",
    ),
    "dtype": (
        lambda m: setattr(m, "weight", nn.Parameter(torch.ones(32, 64, dtype=torch.cfloat))),
        "its weight is torch.complex64",
    ),
    "gradient": (
        lambda m: m(torch.ones(1, 64)).sum().backward(),
        "it has gradients, which do not belong to weights drawn anew",
    ),
}


@pytest.mark.parametrize("name", HUNG)
def test_what_hangs_on_a_layer_keeps_it_dense(name: str) -> None:
    hang, text = HUNG[name]
    model = nn.ModuleDict({"hung": layer(), "plain": layer()})
    hang(model["hung"])
    report = conversion_report(sparsify(model, 0.25))
    hung, plain = report.rows
    assert not hung.replaced
    assert text in hung.note
    assert isinstance(model["hung"], nn.Linear)
    assert plain.replaced


def test_plain_attributes_of_parameters_go_over() -> None:
    model = nn.Sequential(layer())
    model[0].weight._no_weight_decay = True
    model[0].weight.sharding = ("row", None)
    model[0].bias.is_shared_by = {"a": 1}
    model[0]._is_hf_initialized = True
    sparsify(model, 0.25)
    carried = {n: v for n, v in vars(model[0].weight).items() if n != "_pattern_digest"}
    assert carried == {"_no_weight_decay": True, "sharding": ("row", None)}
    assert vars(model[0].bias) == {"is_shared_by": {"a": 1}}
    densify(model)
    assert model[0].weight._no_weight_decay is True


def test_shared_memory_stays_shared() -> None:
    model = nn.Sequential(layer()).share_memory()
    sparsify(model, 0.25)
    assert model[0].weight.is_shared()
    assert model[0].bias.is_shared()
    alone = nn.Sequential(layer())
    sparsify(alone, 0.25)
    assert not alone[0].weight.is_shared()


def test_gradients_go_over_with_kept_weights() -> None:
    model = nn.Sequential(layer())
    model(torch.randn(4, 64)).square().sum().backward()
    grads = [p.grad.clone() for p in model.parameters()]
    sparsify(model, 0.25, keep_weights=True)
    mask = torch.from_numpy(model[0].pattern.mask())
    densify(model)
    assert torch.equal(model[0].weight.grad, grads[0] * mask)
    assert torch.equal(model[0].bias.grad, grads[1])


class Listed(nn.Module):
    """Layers that forward finds in a plain list, beside the tree of modules."""

    def __init__(self, hold: Callable[[nn.Linear], Any]) -> None:
        super().__init__()
        self.first = layer()
        self.second = layer()
        self.held = hold(self.second)


class Holder:
    """A plain object with a layer in it."""

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear


ROADS: dict[str, Callable[[nn.Linear], Any]] = {
    "list": lambda m: [m],
    "dict of tuples": lambda m: {"a": (1, m)},
    "parameter": lambda m: [m.weight],
    "bound method": lambda m: m.forward,
    "partial": lambda m: partial(nn.functional.linear, weight=m.weight),
    "closure": lambda m: lambda x: m(x),
    "default": lambda m: lambda x, m=m: m(x),
    "object": Holder,
    "object in a list": lambda m: [Holder(m)],
    "module in a list": lambda m: [nn.Sequential(m)],
}


@pytest.mark.parametrize("name", ROADS)
def test_a_layer_held_outside_the_tree_stays(name: str) -> None:
    model = nn.Sequential(Listed(ROADS[name]))
    first, second = conversion_report(sparsify(model, 0.25)).rows
    assert first.replaced
    assert second.note == ("left dense: 'held' of '0' holds it too, outside the tree of modules")


def test_a_model_that_lists_its_blocks_is_no_obstacle() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(layer())
            self.head = layer()
            self.blocks = [self.body]
            self.parent = [self]
            self.names = {"head": "head"}

    assert len(conversion_report(sparsify(Blocks(), 0.25)).replaced) == 2


def test_a_traced_graph_that_fetches_a_weight_keeps_its_layer() -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = layer()
            self.called = layer()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = nn.functional.linear(x, self.read.weight) + self.called(x)
            return y + self.read(x)

    model = torch.fx.symbolic_trace(Reading())
    rows = {row.names[0]: row for row in conversion_report(sparsify(model, 0.25)).rows}
    assert rows["read"].note == "left dense: the graph of the model reads its weight directly"
    assert rows["called"].replaced
    assert model(torch.ones(2, 64)).shape == (2, 32)


class Views(nn.Module):
    """Parameters that are views of each other, without being one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, 64)
        self.tied = layer()
        self.tied.weight = nn.Parameter(self.embed.weight.data)
        self.pair = nn.ModuleList([layer(), layer()])
        flat = torch.zeros(2, 32, 64)
        for linear, part in zip(self.pair, flat, strict=True):
            linear.weight = nn.Parameter(part)
        self.viewed = layer()
        self.register_buffer("first_row", self.viewed.weight.data[0])


def test_memory_that_two_parameters_share_keeps_a_layer() -> None:
    notes = {row.names[0]: row.note for row in conversion_report(sparsify(Views(), 0.25)).rows}
    assert notes["tied"] == "left dense: its parameters lie in the memory of 'embed.weight'"
    assert notes["viewed"] == "left dense: its parameters lie in the memory of 'first_row'"
    # parts of one allocation that do not overlap, as mapped checkpoints have them
    assert notes["pair.0"].startswith("clash_free")
    assert notes["pair.1"].startswith("clash_free")


def test_a_materialised_lazy_layer_is_plain() -> None:
    model = nn.Sequential(nn.LazyLinear(32))
    model(torch.ones(1, 64))
    assert conversion_report(sparsify(model, 0.25)).replaced


def test_densify_leaves_what_has_something_hung_on_it() -> None:
    class Own(SparseLinear):
        pass

    model = nn.ModuleDict(
        {"hooked": SparseLinear(64, 32, 0.25), "plain": SparseLinear(64, 32, 0.25)}
    )
    model["own"] = Own(64, 32, 0.25)
    model["listed"] = nn.Sequential(SparseLinear(64, 32, 0.25))
    model["listed"].held = [model["listed"][0]]
    model["hooked"].register_forward_hook(no_hook)
    notes = {row.names[0]: row.note for row in conversion_report(densify(model)).rows}
    assert notes == {
        "hooked": "left sparse: it has hooks, which would be lost (1 in its forward hooks)",
        "plain": "nn.Linear",
        "own": "left sparse: a Own may do more than a SparseLinear",
        "listed.0": "left sparse: 'held' of 'listed' holds it too, outside the tree of modules",
    }


def test_pickled_layers_are_plain() -> None:
    model = pickle.loads(pickle.dumps(nn.Sequential(layer())))
    assert conversion_report(sparsify(model, 0.25)).replaced

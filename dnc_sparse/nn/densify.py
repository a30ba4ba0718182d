"""The way back: dense layers in the places of sparse ones, with the same outputs."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from torch import nn
from torch.optim import Optimizer

from dnc_sparse.backends import reference
from dnc_sparse.nn.convert import hand_over
from dnc_sparse.nn.exchange import Replacement, replace
from dnc_sparse.nn.hung import hung_on
from dnc_sparse.nn.linear import SparseLinear
from dnc_sparse.nn.mlp import SparseMLP
from dnc_sparse.nn.optimizers import as_optimizers, watch
from dnc_sparse.nn.report import Report, ReportRow, other_weights, remember
from dnc_sparse.nn.roads import Roads
from dnc_sparse.nn.wrapping import check_unwrapped

Model = TypeVar("Model", bound=nn.Module)


def densify(model: Model, *, optimizer: Optimizer | Sequence[Optimizer] | None = None) -> Model:
    """Replace each `SparseLinear` inside the model by an `nn.Linear`, zero where there is no edge.

    The same model is returned; `conversion_report(model)` tells what was done to each layer.
    Outputs stay the same. A layer with `relu=True` becomes an `nn.Sequential` of the linear layer
    and an `nn.ReLU`, in which its parameters have longer names; in a `SparseMLP` the network's own
    activation takes over. Training afterwards changes all weights: nothing keeps zeros at zero.

    Layers with hooks, attributes of their own, or held outside the tree of modules are left, with
    the reason in the report. `optimizer` is as in `sparsify`.

    Raises ValueError when the model is itself a `SparseLinear`, TypeError for what is no module,
    RuntimeError for a model that is wrapped and an optimiser that holds weights to be replaced.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"densify takes a model, an nn.Module; got a {type(model).__name__}")
    if isinstance(model, SparseLinear):
        raise ValueError(
            "the model is itself a SparseLinear, which cannot be replaced in place; "
            "use model.to_dense()"
        )
    optimizers = as_optimizers(optimizer)
    check_unwrapped(model, "densify")
    report, old = _convert(model, optimizers)
    watch(old)
    remember(model, report)
    return model


def _convert(
    model: nn.Module, optimizers: Sequence[Optimizer]
) -> tuple[Report, list[weakref.ref[nn.Parameter]]]:
    """Do what `densify` promises; return the report and the parameters that were replaced."""
    names = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, SparseLinear):
            names[module].append(name)
    roads = Roads(model, list(names))
    rows, replacements = [], []
    for layer, found in names.items():
        reason = _left(layer, roads)
        note = f"left sparse: {reason}"
        if reason is None:
            one = _replacement(model, layer, tuple(found))
            replacements.append(one)
            note = "nn.Linear" if one.new is one.holder else "nn.Linear and nn.ReLU"
        weights = layer.n_edges if reason else layer.in_features * layer.out_features
        rows.append(
            ReportRow(
                *(tuple(found), layer.in_features, layer.out_features, None, weights),
                replaced=reason is None,
                note=note,
                before=layer.n_edges,
            )
        )
    others = other_weights(model, list(names))
    replace(model, replacements, optimizers, verb="densify", keep=True)
    old = [weakref.ref(p) for one in replacements for p in one.old.parameters()]
    return Report(tuple(rows), others, "made dense"), old


def _left(layer: SparseLinear, roads: Roads) -> str | None:
    """Say why a layer stays sparse; None when it can become dense."""
    if type(layer) is not SparseLinear:
        return f"a {type(layer).__name__} may do more than a SparseLinear"
    return hung_on(layer) or roads.memory(layer) or roads.other(layer)


def _replacement(model: nn.Module, layer: SparseLinear, names: tuple[str, ...]) -> Replacement:
    dense = layer.to_dense() if not layer.weight.is_meta else _without_values(layer)
    for name, old in layer.named_parameters():
        new = dense.get_parameter(name)
        hand_over(old, new)
        if old.grad is not None:
            grad = old.grad
            new.grad = (
                reference.dense_weight(grad, layer.pattern) if name == "weight" else grad.clone()
            )
    new_layer: nn.Module = dense
    if layer.relu and not all(_activated(model, name) for name in names):
        new_layer = nn.Sequential(dense, nn.ReLU())
    new_layer.train(layer.training)
    pattern = layer.pattern
    return Replacement(
        names, layer, new_layer, dense, lambda value: reference.dense_weight(value, pattern)
    )


def _without_values(layer: SparseLinear) -> nn.Linear:
    """Return the dense layer of a sparse one on the meta device, whose values come later."""
    sizes, bias = (layer.in_features, layer.out_features), layer.bias is not None
    return nn.Linear(*sizes, bias, device="meta", dtype=layer.weight.dtype)


def _activated(model: nn.Module, name: str) -> bool:
    """Tell whether a layer of this name is a junction of a network that applies a ReLU itself."""
    parts = name.split(".")
    if len(parts) < 2 or parts[-2] != "junctions":
        return False
    network = model.get_submodule(".".join(parts[:-2]))
    return isinstance(network, SparseMLP) and type(network.activation) is nn.ReLU

"""Make a model sparse as a checkpoint says, and load it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from dnc_sparse.nn import candidates
from dnc_sparse.nn.base import RECORD
from dnc_sparse.nn.candidates import Candidate
from dnc_sparse.nn.convert import edges_of, hand_over
from dnc_sparse.nn.exchange import Replacement, replace
from dnc_sparse.nn.linear import SparseLinear
from dnc_sparse.nn.optimizers import as_optimizers, watch
from dnc_sparse.nn.report import Report, other_weights, remember
from dnc_sparse.nn.state import decode_pattern
from dnc_sparse.nn.wrapping import check_unwrapped
from dnc_sparse.patterns import Pattern

Model = TypeVar("Model", bound=nn.Module)
_RECORD = f".{RECORD}"


def sparsify_like(
    model: Model,
    state: Mapping[str, Any],
    *,
    strict: bool = True,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
) -> Model:
    """Give the model the sparse layers whose patterns a `state_dict` records, and load it.

    The same model is returned; `conversion_report(model)` tells what was done to each layer.
    The model is built as it was before `sparsify`, in any seed; layers that are sparse with the
    recorded pattern already stay. `strict` is that of `load_state_dict`, `optimizer` that of
    `sparsify`; its moments start anew.

    Raises ValueError when the state records no pattern, or one for a layer that the model lacks or
    that cannot be replaced, RuntimeError as `load_state_dict` and as `sparsify` for a model
    that is wrapped. The layers of the model are then as they were.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"sparsify_like takes a model, an nn.Module; got a {type(model).__name__}")
    optimizers = as_optimizers(optimizer)
    check_unwrapped(model, "sparsify_like")
    report, old = _convert(model, state, strict, optimizers)
    watch(old)
    remember(model, report)
    return model


def _convert(
    model: nn.Module, state: Mapping[str, Any], strict: bool, optimizers: Sequence[Optimizer]
) -> tuple[Report, list[weakref.ref[nn.Parameter]]]:
    """Do what `sparsify_like` promises; return the report and what was replaced."""
    patterns = _patterns(state)
    layers = candidates.find(model)
    by_name = {name: layer for layer in layers for name in layer.names}
    for name in patterns:
        if name not in by_name:
            raise ValueError(_missing(name, layers, state))
    unfit = [Candidate(x.layer, x.names) for x in layers if not isinstance(x.layer, SparseLinear)]
    candidates.leave_unfit(model, unfit, (1, 1), pruned=False)
    reasons = {name: x.reason for x in unfit for name in x.names}
    for name, pattern in patterns.items():
        _take(by_name[name], name, pattern, reasons.get(name))
    for layer in layers:
        if layer.reason is None and layer.pattern is None:
            layer.reason = "the state has dense weights for it"
    others = other_weights(model, [layer.layer for layer in layers])
    replacements = [_replacement(layer) for layer in layers if layer.reason is None]
    load = partial(model.load_state_dict, state, strict=strict)
    replace(model, replacements, optimizers, verb="sparsify_like", keep=False, verify=load)
    report = Report(tuple(layer.row() for layer in layers), others)
    old = [weakref.ref(p) for one in replacements for p in one.old.parameters()]
    return report, old


def _patterns(state: Mapping[str, Any]) -> dict[str, Pattern]:
    """Rebuild the patterns of a state, by the names of their layers."""
    result = {}
    for key, record in state.items():
        weight = state.get(key.removesuffix(_RECORD) + ".weight") if key.endswith(_RECORD) else None
        # another library's extra state stands beside other weights
        if torch.is_tensor(record) and torch.is_tensor(weight) and weight.dim() == 4:
            name = key.removesuffix(_RECORD)
            try:
                result[name] = decode_pattern(record)
            except ValueError as error:
                raise ValueError(f"layer {name!r} of the state: {error}") from error
    if not result:
        raise ValueError(
            "the state records no pattern (no entry ..._extra_state beside a sparse weight); "
            "a state of dense layers is loaded first and converted by sparsify"
        )
    return result


def _take(layer: Candidate, name: str, pattern: Pattern, reason: str | None) -> None:
    """Give the layer the pattern of the state, unless it has that already.

    Raises ValueError when the layer cannot be replaced or has other sizes.
    """
    if reason is not None:
        raise ValueError(f"the state has a sparse layer {name!r}, which stays dense here: {reason}")
    if (layer.n_in, layer.n_out) != (pattern.n_in, pattern.n_out):
        raise ValueError(
            f"the state has a sparse layer {name!r} of {pattern.n_in} -> {pattern.n_out}, the "
            f"model's is {layer.n_in} -> {layer.n_out}; build the model in the sizes that were "
            f"saved"
        )
    if layer.pattern is None or layer.pattern.digest != pattern.digest:
        layer.pattern, layer.reason = pattern, None


def _replacement(candidate: Candidate) -> Replacement:
    """Return the sparse layer of a candidate, its values still to be loaded."""
    old, pattern = candidate.layer, candidate.pattern
    weight, bias = old.get_parameter("weight"), old._parameters.get("bias")
    layer = SparseLinear(
        *(candidate.n_in, candidate.n_out),
        pattern=pattern,
        bias=bias is not None,
        relu=isinstance(old, SparseLinear) and old.relu,
        device=weight.device,
        dtype=weight.dtype,
    ).train(old.training)
    for name, parameter in layer.named_parameters():
        hand_over(old.get_parameter(name), parameter)
    return Replacement(candidate.names, old, layer, layer, edges_of(candidate))


def _missing(name: str, layers: Sequence[Candidate], state: Mapping[str, Any]) -> str:
    """Say that the model lacks a layer of the state, and which prefix may be to blame."""
    text = f"the state has a sparse layer {name!r}, which is no linear layer of the model"
    prefix = name.partition(".")[0] + "."
    known = {own for layer in layers for own in layer.names}
    if name.removeprefix(prefix) in known and all(key.startswith(prefix) for key in state):
        return (
            f"{text}; every entry begins with {prefix!r}, as a wrapper saves it: "
            f"strip that, {{key.removeprefix({prefix!r}): value for key, value in state.items()}}"
        )
    return f"{text}; linear layers: {candidates.names_of(layers)}"

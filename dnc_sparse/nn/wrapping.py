"""Refuse to change a model that something has already wrapped, compiled or begun to optimise.

A wrapper keeps lists of the parameters that the model had: gradients of new ones are not averaged
over processes, their values not sharded, their changes not compiled. Wrappers are told by the names
of their classes, so that none of their libraries is imported for it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

_FIRST = "sparsify the model first and wrap it afterwards"
# the first part of the module's name and the class: what such a wrapper would do
_WRAPPERS = {
    ("torch", "DistributedDataParallel"): "its reducer would never average the new weights",
    ("torch", "DataParallel"): "its replicas follow the module that it wraps",
    ("torch", "FullyShardedDataParallel"): "it has sharded the weights",
    ("torch", "FSDPModule"): "fully_shard has sharded the weights",
    ("torch", "OptimizedModule"): "torch.compile may have traced the dense layers",
    ("torch", "ScriptModule"): "TorchScript runs its own record of the layers",
    ("torch", "AveragedModel"): "it averages a copy; the model that is trained would stay dense",
    ("deepspeed", "DeepSpeedEngine"): "the engine has partitioned the weights",
    ("lightning", "_FabricModule"): "Fabric has set up the model and its optimisers",
    ("lightning_fabric", "_FabricModule"): "Fabric has set up the model and its optimisers",
    ("peft", "PeftModel"): "its adapters rely on the dense layers they were made for",
    ("peft", "BaseTuner"): "its adapters rely on the dense layers they were made for",
    ("peft", "BaseTunerLayer"): "its adapters rely on the dense layers they were made for",
}


def check_unwrapped(model: nn.Module) -> None:
    """Raise RuntimeError when the model or a part of it is wrapped, compiled or distributed."""
    for name, module in model.named_modules():
        reason = _wrapped(module)
        if reason is not None:
            where = f"{name!r}, a part of the model," if name else "the model"
            raise RuntimeError(f"{where} {reason}; {_FIRST}")
    for name, parameter in model.named_parameters():
        if type(parameter).__name__ == "DTensor":
            raise RuntimeError(
                f"{name!r} is a DTensor, whose parts lie on several devices "
                f"(fully_shard, parallelize_module), and a new weight would lie on one; {_FIRST}"
            )


def bystanders(
    model: nn.Module, targets: Mapping[int, str], exempt: Collection[int] = ()
) -> Iterator[str]:
    """Name each live object outside the model that goes on with its layers as they were.

    Wrappers that hold the model or a layer of `targets` (names by the id of a layer or parameter),
    and optimisers whose groups hold a parameter of it, but for groups with an id in `exempt`.
    """
    kinds: dict[type, str] = {}
    tree = {id(module) for module in model.modules()}
    groups: dict[int, str] = {}
    for thing in gc.get_objects():
        cls = type(thing)
        if cls is dict:
            if "params" in thing and id(thing) not in exempt:
                held = _held(thing["params"], targets)
                if held is not None:
                    groups[id(thing)] = held
            continue
        if cls not in kinds:
            kinds[cls] = _kind(cls)
        if kinds[cls] == "wrapper" and id(thing) not in tree and "_modules" in vars(thing):
            inside = {id(module) for module in thing.modules()}
            if id(model) in inside or not inside.isdisjoint(targets):
                yield f"{cls.__name__} wraps the model, and {_reason(cls)}; {_FIRST}"
    if groups:
        named = _optimisers(groups)
        held = next(iter(groups.values()))
        yield (
            f"{named} was built before and holds weights that sparsify replaces, such as that of "
            f"{held!r}; it would go on with the old ones. Build it after sparsify, or hand it "
            f"over, sparsify(..., optimizer=optimizer), to have them exchanged"
        )


def check_bystanders(
    model: nn.Module, targets: Mapping[int, str], exempt: Collection[int] = ()
) -> None:
    """Raise RuntimeError when a live object outside the model relies on its layers as they are."""
    if next(bystanders(model, targets, exempt), None) is not None:
        # what nobody can reach any more may wait for the collector, and is no bystander
        gc.collect()
        text = next(bystanders(model, targets, exempt), None)
        if text is not None:
            raise RuntimeError(text)


def _held(params: Any, targets: Mapping[int, str]) -> str | None:
    if not isinstance(params, (list, tuple)):
        return None
    return next((targets[id(p)] for p in params if id(p) in targets), None)


def _optimisers(groups: Mapping[int, str]) -> str:
    """Name the optimisers that hold the groups; a group that none holds speaks for itself."""
    names = []
    for thing in gc.get_objects():
        if issubclass(type(thing), Optimizer):
            held = getattr(thing, "param_groups", ())
            if any(id(group) in groups for group in held):
                names.append(type(thing).__name__)
    return "an optimiser (" + ", ".join(sorted(set(names))) + ")" if names else "a parameter group"


def _kind(cls: type) -> str:
    return "wrapper" if _wrapper(cls) is not None and issubclass(cls, nn.Module) else ""


def _wrapper(cls: type) -> tuple[str, str] | None:
    for base in cls.__mro__:
        key = (str(base.__module__).partition(".")[0], base.__name__)
        if key in _WRAPPERS:
            return key
    return None


def _reason(cls: type) -> str:
    key = _wrapper(cls)
    assert key is not None
    return _WRAPPERS[key]


def _wrapped(module: nn.Module) -> str | None:
    """Say what has wrapped this module; None when nothing has."""
    key = _wrapper(type(module))
    if key is not None:
        return f"is wrapped ({key[1]}), and {_WRAPPERS[key]}"
    if vars(module).get("_compiled_call_impl") is not None:
        return "is compiled in place (module.compile()), which may have traced the dense layers"
    forward = vars(module).get("forward")
    if "make_graphed" in getattr(forward, "__qualname__", ""):
        return "is captured as a CUDA graph, which replays the dense layers"
    if hasattr(forward, "_torchdynamo_orig_callable"):
        return "has a compiled forward (torch.compile(module.forward)), traced for the dense layers"
    applied = _composed(module)
    if applied:
        return f"is distributed by {applied}, which goes on with the weights it was given"
    return None


def _composed(module: nn.Module) -> str | None:
    """Name what torch.distributed's composable functions, such as `replicate`, did to a module."""
    contract = sys.modules.get("torch.distributed._composable.contract")
    registry = contract._get_registry(module) if contract is not None else None
    # activation checkpointing is one of them, and calls whatever layer is there
    return ", ".join(name for name in registry or () if name != "checkpoint") or None

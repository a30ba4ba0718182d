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

from dnc_sparse.nn.roads import search

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


def check_unwrapped(model: nn.Module, verb: str) -> None:
    """Raise RuntimeError when the model or a part of it is wrapped, compiled or distributed.

    `verb` is the conversion that the error advises to do first.
    """
    for name, module in model.named_modules():
        reason = _wrapped(module)
        if reason is not None:
            where = f"{name!r}, a part of the model," if name else "the model"
            raise RuntimeError(f"{where} {reason}; {verb} first, wrap after")
    for name, parameter in model.named_parameters():
        if type(parameter).__name__ == "DTensor":
            raise RuntimeError(
                f"{name!r} is a DTensor, whose parts lie on several devices "
                f"(fully_shard, parallelize_module), and a new weight would lie on one; "
                f"{verb} first, wrap after"
            )


def bystanders(
    model: nn.Module, targets: Mapping[int, str], exempt: Collection[int], verb: str
) -> Iterator[str]:
    """Name each live object outside the model that goes on with its layers as they were.

    Wrappers that hold the model or a layer of `targets` (names by the id of a layer or parameter),
    and optimisers that hold a parameter of it, but for what has an id in `exempt`. An optimiser is
    what has groups of parameters, or the methods `step` and `zero_grad`.
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
        kind = kinds.get(cls)
        if kind is None:
            kind = kinds[cls] = _kind(cls)
        if kind == "optimiser":
            found = search(vars(thing).values(), targets, set(exempt))
            if found:
                yield _built_before(f"an optimiser ({cls.__name__})", found[0], verb)
        if kind == "wrapper" and id(thing) not in tree and "_modules" in vars(thing):
            inside = {id(module) for module in thing.modules()}
            if id(model) in inside or not inside.isdisjoint(targets):
                text = f"{cls.__name__} wraps the model, and {_reason(cls)}"
                yield f"{text}; {verb} first, wrap after"
    if groups:
        text = _built_before(_optimisers(groups), next(iter(groups.values())), verb)
        yield f"{text}, or hand it over, {verb}(..., optimizer=optimizer), to have them exchanged"


def check_bystanders(
    model: nn.Module, targets: Mapping[int, str], exempt: Collection[int], verb: str
) -> None:
    """Raise RuntimeError when a live object outside the model relies on its layers as they are."""
    if next(bystanders(model, targets, exempt, verb), None) is not None:
        # what nobody can reach any more may wait for the collector, and is no bystander
        gc.collect()
        text = next(bystanders(model, targets, exempt, verb), None)
        if text is not None:
            raise RuntimeError(text)


def _built_before(named: str, layer: str, verb: str) -> str:
    return (
        f"{named} was built before and holds weights that {verb} replaces, such as that of "
        f"{layer!r}; it would go on with the old ones. Build it after {verb}"
    )


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
    """Tell what instances of a class may be to a model: a wrapper, an optimiser, or nothing."""
    if issubclass(cls, nn.Module):
        return "wrapper" if _wrapper(cls) is not None else ""
    # those of torch are told by their groups
    steps = all(callable(getattr(cls, name, None)) for name in ("step", "zero_grad"))
    return "optimiser" if steps and not issubclass(cls, Optimizer) else ""


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

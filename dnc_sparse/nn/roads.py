"""Other roads to a layer than its name in the model, on which the old one would live on."""

from __future__ import annotations

import weakref
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.parameter import is_lazy

# what a module holds under names that sparsify changes
_NAMED = ("_parameters", "_buffers", "_modules")
# how many plain objects deep a search goes: a holder, and a holder of that
_DEPTH = 2


class Roads:
    """Where a model holds its linear layers outside its tree of names: in lists, closures, views.

    Built once for a model; the layers are those asked about afterwards.
    """

    def __init__(self, model: nn.Module, layers: Sequence[nn.Module]) -> None:
        self._others = _other_holders(model, layers)
        self._memory = _shared_memory(model, layers)

    def other(self, layer: nn.Module) -> str | None:
        """Say what else holds the layer or its parameters; None when nothing does."""
        return self._others.get(layer)

    def memory(self, layer: nn.Module) -> str | None:
        """Say which other tensor lies in the memory of its parameters; None when none does."""
        return self._memory.get(layer)


def search(roots: Iterable[Any], targets: Mapping[int, Any], known: set[int]) -> list[Any]:
    """List the values of `targets`, by the id of an object, that can be reached from the roots.

    Through containers, closures, bound methods, weak references and plain objects, but not through
    the ids in `known`, which grows.
    """
    found = []
    queue = deque((root, 0) for root in roots)
    while queue:
        value, depth = queue.popleft()
        if id(value) in targets:
            found.append(targets[id(value)])
            continue
        if id(value) in known:
            continue
        inside = _inside(value)
        if inside is None and depth < _DEPTH and _is_plain_object(value):
            inside, depth = vars(value).values(), depth + 1
        if inside is not None:
            known.add(id(value))
            queue.extend((item, depth) for item in inside)
    return found


def _inside(value: Any) -> Iterable[Any] | None:
    """Return what a container holds; None for anything else."""
    if isinstance(value, (str, bytes, Tensor)):
        return None
    if isinstance(value, nn.Module):
        # a module outside the tree: those in it are known from the start
        modules = list(value.modules())
        stored = (v for m in modules for k, v in vars(m).items() if k not in _NAMED)
        return chain(modules[1:], value.parameters(), stored)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return list(value)
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if isinstance(value, weakref.ref):
        return [value()]
    return None


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        # a variable that was never bound
        return None


def _is_plain_object(value: Any) -> bool:
    return hasattr(value, "__dict__") and not isinstance(value, (type, ModuleType))


def _other_holders(model: nn.Module, layers: Sequence[nn.Module]) -> dict[nn.Module, str]:
    targets: dict[int, Any] = {id(layer): layer for layer in layers}
    targets |= {id(p): layer for layer in layers for p in layer.parameters()}
    inside = set(layers)
    modules = list(model.named_modules())
    # each module of the tree is searched on its own, under its own name
    known = {id(module) for _, module in modules if module not in inside}
    result: dict[nn.Module, str] = {}
    for name, module in modules:
        where = repr(name) if name else "the model"
        if isinstance(module, GraphModule):
            for layer, node in _read_by_graph(module, inside):
                result.setdefault(layer, f"the graph of {where} reads its {node} directly")
        if module in inside:
            continue
        for key, value in vars(module).items():
            if key in _NAMED:
                continue
            for layer in search([value], targets, known):
                result.setdefault(
                    layer, f"{key!r} of {where} holds it too, outside the tree of modules"
                )
    return result


def _read_by_graph(module: GraphModule, inside: set[nn.Module]) -> list[tuple[nn.Module, str]]:
    """List the layers whose parameters a traced graph fetches by name, instead of calling them."""
    result = []
    for node in module.graph.nodes:
        if node.op == "get_attr":
            path, _, name = str(node.target).rpartition(".")
            layer = module.get_submodule(path)
            if layer in inside:
                result.append((layer, name))
    return result


def _shared_memory(model: nn.Module, layers: Sequence[nn.Module]) -> dict[nn.Module, str]:
    """Find parameters that overlap in memory with another tensor of the model."""
    owner: dict[Tensor, nn.Module] = {p: layer for layer in layers for p in layer.parameters()}
    regions = defaultdict(list)
    tensors = chain(
        model.named_parameters(remove_duplicate=True), model.named_buffers(remove_duplicate=True)
    )
    for name, tensor in tensors:
        if type(tensor) in (nn.Parameter, Tensor) and not is_lazy(tensor) and _is_strided(tensor):
            start = tensor.storage_offset() * tensor.element_size()
            last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
            end = start + (last + 1) * tensor.element_size()
            regions[tensor.untyped_storage()._cdata].append((start, end, name, tensor))
    result: dict[nn.Module, str] = {}
    for group in regions.values():
        group.sort(key=lambda region: region[:2])
        for i, (_, end, name, tensor) in enumerate(group):
            for other_start, _, other_name, other in group[i + 1 :]:
                if other_start >= end:
                    break
                for mine, theirs in ((tensor, other_name), (other, name)):
                    if mine in owner:
                        text = f"its parameters lie in the memory of {theirs!r}"
                        result.setdefault(owner[mine], text)
    return result


def _is_strided(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.numel() > 0

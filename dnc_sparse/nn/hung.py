"""What code has hung on a linear layer, and would be lost with it: hooks, masks, attributes.

A layer is plain when it has nothing but what its constructor gave it. Everything else is named, so
that the layer stays dense with the reason, but for plain values on its parameters (flags such as
`_no_weight_decay`), which go over to the new ones.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from dnc_sparse.nn.base import DIGEST
from dnc_sparse.nn.linear import SparseLinear

# attributes that constructors write and the sparse layer has, or does not need
_SIZES = {"in_features", "out_features", "nx", "nf"}
# transformers marks with it that a module has its first values
_MARKS = {"_is_hf_initialized"}
_ORDINARY = frozenset(vars(nn.Module())) | _SIZES | _MARKS
# the keys that say more about hooks in another store
_COMPANIONS = {
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
    "_is_full_backward_hook",
}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def is_pruned(layer: nn.Module) -> bool:
    """Tell whether `torch.nn.utils.prune` has masked the layer's weight."""
    return "weight_orig" in layer._parameters and "weight_mask" in layer._buffers


def hung_on(layer: nn.Module, *, pruned: bool = False) -> str | None:
    """Say what hangs on the layer and would be lost with it; None for a plain layer.

    With `pruned` a mask of `torch.nn.utils.prune` on the weight does not count.
    """
    masked = pruned and is_pruned(layer)
    if is_pruned(layer) and not pruned:
        return "torch.nn.utils.prune has masked it; pattern='nonzero' makes the mask its pattern"
    return (
        _hooks(layer, masked)
        or _attributes(layer, masked)
        or _stores(layer, masked)
        or _on_parameters(layer)
    )


def carried(parameter: nn.Parameter) -> dict[str, Any]:
    """Return the attributes of a parameter that its successor takes over."""
    return {name: value for name, value in vars(parameter).items() if name != DIGEST}


def _hooks(layer: nn.Module, masked: bool) -> str | None:
    for name, store in vars(layer).items():
        if not name.endswith("hooks") or name in _COMPANIONS or not store:
            continue
        hooks = list(store.values())
        if masked and all(isinstance(hook, BasePruningMethod) for hook in hooks):
            continue
        kind = name.strip("_").replace("_", " ")
        return f"it has hooks, which would be lost ({len(hooks)} in its {kind})"
    return None


def _attributes(layer: nn.Module, masked: bool) -> str | None:
    attributes = vars(layer)
    if attributes.get("_compiled_call_impl") is not None:
        return "it was compiled in place (layer.compile()), which would be lost"
    if "forward" in attributes:
        return "its forward was replaced on this instance, which would be lost"
    ordinary = _ORDINARY | (
        set(vars(_plain_sparse())) if isinstance(layer, SparseLinear) else set()
    )
    for name in attributes:
        derived = masked and name in ("weight", "bias")
        if not (name in ordinary or name in _COMPANIONS or derived) and not name.endswith("hooks"):
            return f"it has an attribute {name!r}, which would be lost"
    return None


def _stores(layer: nn.Module, masked: bool) -> str | None:
    expected = {"weight_orig" if masked else "weight", "bias"}
    buffers = {"weight_mask"} if masked else set()
    if isinstance(layer, SparseLinear):
        buffers = set(_plain_sparse()._buffers)
    extra = [f"a parameter {name!r}" for name in layer._parameters if name not in expected] + [
        f"a buffer {name!r}" for name in layer._buffers if name not in buffers
    ]
    extra += [f"a module {name!r}" for name in layer._modules]
    if extra:
        return f"it has {extra[0]}, which would be lost"
    weight = layer._parameters.get("weight_orig" if masked else "weight")
    return "it has no parameter 'weight'" if weight is None else None


@cache
def _plain_sparse() -> SparseLinear:
    """Return a layer with nothing but what its constructor gives it."""
    return SparseLinear(1, 1, fan_in=1, device="meta")


def _on_parameters(layer: nn.Module) -> str | None:
    for name, parameter in layer._parameters.items():
        if parameter is None:
            continue
        if type(parameter) is not nn.Parameter:
            return f"its {name} is a {type(parameter).__name__}, no plain nn.Parameter"
        if _tensor_hooks(parameter):
            return f"its {name} has hooks, which would be lost"
        for attribute, value in vars(parameter).items():
            if not _is_plain(value):
                kind = type(value).__name__
                return (
                    f"its {name} has an attribute {attribute!r} ({kind}), which may not fit "
                    f"the sparse one"
                )
    return None


def _tensor_hooks(parameter: Tensor) -> bool:
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return isinstance(value, _PLAIN)

"""Explain an error in the first forward of a converted model that comes from reading a weight.

Without an example `sparsify` cannot know that other code reads a layer's weight. The modules around
new layers get a hook that takes itself out at their first success, and completes the error's
text at a failure.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import Any

import torch
from torch import nn

from dnc_sparse.nn.linear import SparseLinear


@dataclass(frozen=True)
class FirstForward:
    """The hook of one module; `prefix` begins the names of what is in it, such as "body."."""

    prefix: str

    def __call__(self, module: nn.Module, args: Any, result: Any) -> None:
        """Take the hook out after a success, complete the error's text after a failure."""
        if torch.compiler.is_compiling():
            return
        error = sys.exc_info()[1]
        if result is None and error is not None and _raised_in(error.__traceback__, module):
            _complete(error, module, self.prefix)
        else:
            self._take_out(module)

    def _take_out(self, module: nn.Module) -> None:
        for key in [key for key, hook in module._forward_hooks.items() if hook is self]:
            del module._forward_hooks[key]
            module._forward_hooks_always_called.pop(key, None)


def explain_first_forward(model: nn.Module, names: Iterable[str]) -> None:
    """Hang the hook on the model and on the direct parents of the layers with these names."""
    paths = dict.fromkeys(["", *(name.rpartition(".")[0] for name in names)])
    hooked = set()
    for path in paths:
        module = model.get_submodule(path)
        if module not in hooked:
            hooked.add(module)
            hook = FirstForward(path + "." if path else "")
            module.register_forward_hook(hook, always_call=True)


def _raised_in(traceback: TracebackType | None, module: nn.Module) -> bool:
    """Tell whether the error passed through a call of the module."""
    return traceback is not None and traceback.tb_frame.f_locals.get("self") is module


def _complete(error: BaseException, module: nn.Module, prefix: str) -> None:
    """Add to the error which sparse layer's weight the failing code reads, once."""
    if getattr(error, "_names_sparse_layer", False):
        return
    read = _read_layer(error.__traceback__, module)
    if read is None:
        return
    name, reader, layer = prefix + read[0], read[1], read[2]
    text = (
        f"{reader} reads the weight of {name!r}, which sparsify made a SparseLinear: its shape "
        f"{list(layer.weight.shape)} is [rows, slots, bo, bi], not [n_out, n_in]. "
        f"sparsify(model, ..., example=(inputs,)) leaves such layers dense, as does "
        f"skip=[{name!r}]"
    )
    error._names_sparse_layer = True  # type: ignore[attr-defined]
    if len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]}\n{text}",)
    else:
        error.add_note(text)


def _read_layer(
    traceback: TracebackType | None, module: nn.Module
) -> tuple[str, str, SparseLinear] | None:
    """Find the innermost code of the error that names `weight` and a sparse layer in reach."""
    inside = {m: name for name, m in module.named_modules() if isinstance(m, SparseLinear)}
    result = None
    while traceback is not None:
        frame = traceback.tb_frame
        own = isinstance(frame.f_locals.get("self"), SparseLinear)
        if "weight" in frame.f_code.co_names and not own:
            reached = _in_reach(frame.f_code, frame.f_locals, inside)
            if reached is not None:
                result = inside[reached], frame.f_code.co_qualname, reached
        traceback = traceback.tb_next
    return result


def _in_reach(
    code: CodeType, local: dict[str, Any], inside: dict[SparseLinear, str]
) -> SparseLinear | None:
    """Return the layer that is a local variable of the code, or that it names on one."""
    for value in local.values():
        if isinstance(value, SparseLinear) and value in inside:
            return value
    named = set(code.co_names)
    for value in local.values():
        if isinstance(value, nn.Module):
            for name, child in value.named_modules():
                if isinstance(child, SparseLinear) and child in inside and _called(name, named):
                    return child
    return None


def _called(name: str, named: set[str]) -> bool:
    """Tell whether code that names these attributes may reach the module `name` of an object."""
    words = {part for part in name.split(".") if not part.isdigit()}
    return not words or not words.isdisjoint(named)

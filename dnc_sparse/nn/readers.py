"""Run a model once to see which linear layers are called, and whose weight other code reads.

A `SparseLinear` has no matrix that code other than its own could multiply by. For the run each
layer becomes an instance of a subclass whose `weight` is, outside its own forward, a tensor that
notes what is done with it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dnc_sparse.nn.fused import unfused

# what a sparse weight answers as a dense one does
_HARMLESS = frozenset(
    getattr(Tensor, name).__get__
    for name in (
        *("dtype", "device", "requires_grad", "layout", "is_leaf", "grad"),
        *("is_cuda", "is_cpu", "is_meta", "is_xpu", "is_mps", "is_sparse", "is_quantized"),
    )
) | {
    *(Tensor.is_floating_point, Tensor.is_complex, Tensor.get_device, Tensor.element_size),
    *(torch.is_floating_point, torch.is_complex),
}


class Watch:
    """What a run of the model did with its linear layers."""

    def __init__(self) -> None:
        self.called: set[nn.Module] = set()
        self.readers: dict[nn.Module, str] = {}


def call(model: nn.Module, example: Any) -> None:
    """Call the model on the example without gradients, and leave no trace of it.

    The example is a tuple of arguments, a mapping of keyword arguments, or the only argument.
    Random states and buffers are put back.
    """
    with torch.no_grad(), random_states(model), _buffers(model), unfused(model):
        run(model, example)


def run(model: nn.Module, example: Any) -> Any:
    """Return the model's output on the example: a tuple, a mapping or the only argument."""
    if isinstance(example, Mapping):
        return model(**example)
    return model(*(example if isinstance(example, tuple) else (example,)))


def observe(model: nn.Module, layers: Sequence[nn.Module], example: Any) -> Watch:
    """Call the model on the example and return what it did with the layers."""
    watch = Watch()
    classes: list[tuple[nn.Module, Any]] = [(layer, type(layer)) for layer in layers]
    plain = [(layer, layer._parameters.get("weight")) for layer in layers]
    try:
        for layer, kind in classes:
            layer.__class__ = _watched(kind)
            vars(layer)["_watch"] = watch
        for layer, parameter in plain:
            if parameter is not None:
                vars(layer)["_plain"] = parameter
                noted: Any = _noted(layer, parameter, watch)
                layer._parameters["weight"] = noted
        call(model, example)
    finally:
        for layer, parameter in plain:
            if parameter is not None:
                layer._parameters["weight"] = parameter
        for layer, kind in classes:
            layer.__class__ = kind
            for name in ("_watch", "_plain", "_inside"):
                vars(layer).pop(name, None)
    return watch


class _Noted(Tensor):
    """A weight that notes what reads it."""

    _note: Callable[[str], None]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _HARMLESS:
            for value in _flat([*args, *(kwargs or {}).values()]):
                if isinstance(value, _Noted):
                    value._note(getattr(func, "__name__", str(func)))
        # results are ordinary tensors: the reading is noted once
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def _noted(layer: nn.Module, plain: Tensor, watch: Watch) -> Tensor:
    """Return a view of a weight that notes who reads it, and how."""
    with torch._C.DisableTorchFunctionSubclass():
        noted: Any = plain.detach().as_subclass(_Noted).requires_grad_(plain.requires_grad)
    vars(noted).update(vars(plain), _is_param=True)
    noted._note = lambda function: watch.readers.setdefault(layer, f"{_reader()} ({function})")
    result: Tensor = noted
    return result


@cache
def _watched(kind: type[Any]) -> type[nn.Module]:
    """Return a subclass of a layer's class that tells its own reading from that of others."""

    def weight(self: Any) -> Tensor:
        # the weight of a pruned layer is no parameter: a hook writes it before each call
        plain: Tensor = vars(self).get("weight", vars(self).get("_plain"))
        return plain if vars(self).get("_inside") else _noted(self, plain, self._watch)

    def set_weight(self: Any, value: Tensor) -> None:
        vars(self)["weight"] = value

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._watch.called.add(self)
        vars(self)["_inside"] = True
        try:
            return kind.forward(self, *args, **kwargs)
        finally:
            vars(self)["_inside"] = False

    # the name is the layer's, for models that look at it
    members = {"weight": property(weight, set_weight), "forward": forward}
    return type(kind.__name__, (kind,), members)


def _reader() -> str:
    """Name the code that reads a weight: the nearest method of a module, else function."""
    frame: FrameType | None = sys._getframe(1)
    function = None
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if frame.f_code.co_filename != __file__ and name != nn.Module.__module__:
            if isinstance(frame.f_locals.get("self"), nn.Module):
                return frame.f_code.co_qualname
            if function is None and name.partition(".")[0] != "torch":
                function = frame.f_code.co_qualname
        frame = frame.f_back
    return function or "other code"


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value


@contextmanager
def random_states(model: nn.Module) -> Iterator[None]:
    """Put back, afterwards, the states of random numbers: Python's, numpy's and torch's."""
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=sorted(devices, key=str)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _buffers(model: nn.Module) -> Iterator[None]:
    """Put back the buffers, those that were replaced and those that were written to."""
    stores = [(module, dict(module._buffers)) for module in model.modules()]
    values = [(b, b.clone()) for _, store in stores for b in store.values() if b is not None]
    try:
        yield
    finally:
        for module, store in stores:
            module._buffers.clear()
            module._buffers.update(store)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)

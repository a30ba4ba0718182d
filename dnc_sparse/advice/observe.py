"""How a training step calls the linear layers of a model: with which inputs, and how often."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """One way in which a layer is called: its input, and which gradients are asked for.

    `shape` is [..., n_in]. `autocast` is the dtype that torch casts to meanwhile, None for no cast;
    `backward` tells whether the weight, the bias or the input gets a gradient.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    autocast: torch.dtype | None
    backward: bool
    grad_input: bool

    @property
    def samples(self) -> int:
        """Rows that the layer multiplies in a call: the product of the leading sizes."""
        return math.prod(self.shape[:-1])


Calls = Counter[Call]


def calls_of(
    layers: Mapping[str, nn.Module],
    step: Callable[[], object],
    untouched: Mapping[str, nn.Module] | None = None,
) -> dict[str, Calls]:
    """Run a training step and return the calls of each layer, by its name.

    A layer whose parameters have no gradient after the step, and whose input needs none, was called
    for its output only. Raises RuntimeError when the step calls a layer of `untouched`, those of
    the model of which a copy is trained.
    """
    calls = {name: Calls() for name in layers}
    hooks = [
        layer.register_forward_pre_hook(partial(_note, calls[name]), with_kwargs=True)
        for name, layer in layers.items()
    ] + [
        layer.register_forward_pre_hook(partial(_refuse, name))
        for name, layer in (untouched or {}).items()
    ]
    try:
        step()
    finally:
        for hook in hooks:
            hook.remove()
    for name, layer in layers.items():
        if not any(parameter.grad is not None for parameter in layer.parameters()):
            calls[name] = _without_parameters(calls[name])
    return calls


def _note(calls: Calls, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    x = args[0] if args else next(iter(kwargs.values()), None)
    # anything else fails in the layer itself, with its own message
    if not isinstance(x, Tensor):
        return
    if x.is_nested:
        # a layer multiplies the samples of all sequences at once
        x = torch.cat(x.unbind())
    kind = x.device.type
    cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    graded = torch.is_grad_enabled()
    wanted = x.requires_grad or any(p.requires_grad for p in layer.parameters())
    call = Call(
        *(tuple(x.shape), tuple(x.stride()), x.dtype, x.device, cast),
        backward=graded and wanted,
        grad_input=graded and x.requires_grad,
    )
    calls[call] += 1


def _refuse(name: str, *call: object) -> None:
    raise RuntimeError(
        f"a copy of the model calls a layer of the model itself, {name!r}, so that training the "
        f"copy would change the model: a function holds the layer; let it reach the layer through "
        f"the module that it is called with"
    )


def _without_parameters(calls: Calls) -> Calls:
    """Return the calls of a layer whose parameters got no gradient."""
    result = Calls()
    for call, count in calls.items():
        result[replace(call, backward=call.backward and call.grad_input)] += count
    return result

"""What a network is made of, counted exactly: parameters, edges, multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dnc_sparse import SparseLinear

# modules whose parameters take part in no product of matrices: a few operations per activation,
# which counts of multiply-adds leave out
FREE = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.PReLU,
)


def parameters(model: nn.Module) -> int:
    """Return the numbers that training changes; slots without an edge are none."""
    total = sum(p.numel() for p in model.parameters() if p.requires_grad)
    empty = (
        layer.weight.numel() - layer.n_edges
        for layer in model.modules()
        if isinstance(layer, SparseLinear) and layer.weight.requires_grad
    )
    return total - sum(empty)


def edges(model: nn.Module) -> int:
    """Return the weights of linear, sparse and convolutional layers, biases not counted.

    Raises ValueError as `multiply_adds`.
    """
    return sum(_weights(layer) for layer in _counted(model).values())


def multiply_adds(model: nn.Module, x: Tensor) -> int:
    """Return the multiply-adds of a forward pass, per sample of x: [batch, n_features].

    Each layer's are its weights times the places it is applied at. Raises ValueError, naming them,
    for modules with parameters that are of no known kind.
    """
    layers = _counted(model)
    total = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        total += _weights(layer) * (output.numel() // _outputs(layer))

    hooks = [layer.register_forward_hook(count) for layer in layers.values()]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(x)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return total // len(x)


# kind of layer: its weights, and its outputs at one place
_KINDS: Mapping[type[nn.Module], tuple[Callable[[Any], int], Callable[[Any], int]]] = {
    SparseLinear: (lambda layer: layer.n_edges, lambda layer: layer.out_features),
    nn.Linear: (lambda layer: layer.weight.numel(), lambda layer: layer.out_features),
    nn.Conv1d: (lambda layer: layer.weight.numel(), lambda layer: layer.out_channels),
    nn.Conv2d: (lambda layer: layer.weight.numel(), lambda layer: layer.out_channels),
}


def _counted(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that multiply, by name."""
    owners = {
        name: module
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    }
    unknown = [
        f"{name or 'the network itself'} ({type(module).__name__})"
        for name, module in owners.items()
        if not isinstance(module, (*_KINDS, *FREE))
    ]
    if unknown:
        raise ValueError(
            f"cannot count the multiply-adds of {', '.join(unknown)}; build the network from "
            f"{', '.join(kind.__name__ for kind in _KINDS)}, or measure its time instead"
        )
    return {name: module for name, module in owners.items() if not isinstance(module, FREE)}


def _weights(layer: nn.Module) -> int:
    return next(weights(layer) for kind, (weights, _) in _KINDS.items() if isinstance(layer, kind))


def _outputs(layer: nn.Module) -> int:
    return next(outputs(layer) for kind, (_, outputs) in _KINDS.items() if isinstance(layer, kind))

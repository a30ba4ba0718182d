"""Initialisers for sparse and dense layers alike, by the edges that a neuron really has.

| name    | meaning                                                       | shape               |
| ------- | ------------------------------------------------------------- | ------------------- |
| fan_in  | edges into the right neuron of a weight                       | [rows, 1]           |
| fan_out | edges out of the left neuron of a weight                      | [rows, slots]       |
| spread  | standard deviation, or bound, of each weight                  | [rows, slots, 1, 1] |

Each takes a layer (`SparseLinear` or `nn.Linear`) or a model, whose linear layers it all draws.
Only weights change; slots without an edge stay zero. Arguments are those of `torch.nn.init`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dnc_sparse.nn.linear import (
    FanIn,
    SparseLinear,
    check_fan_in_rule,
    clear_empty_slots_,
    row_fan_in,
)

Mode = Literal["fan_in", "fan_out"]
Layer = SparseLinear | nn.Linear
M = TypeVar("M", bound=nn.Module)

# standard deviation of a unit normal cut at two standard deviations
_TRUNCATED_STD = 0.87962566103423978


def kaiming_uniform_(
    module: M,
    a: float = 0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: torch.Generator | None = None,
) -> M:
    """Draw weights uniformly within gain * sqrt(3 / fan), He et al. 2015 (arXiv 1502.01852).

    Raises ValueError for an unknown mode or nonlinearity.
    """
    gain = math.sqrt(3) * _gain(nonlinearity, a)
    return _draw(module, _uniform(generator), lambda layer: gain / _fan(layer, mode).sqrt())


def kaiming_normal_(
    module: M,
    a: float = 0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: torch.Generator | None = None,
) -> M:
    """Draw weights from a normal of standard deviation gain / sqrt(fan), He et al. 2015.

    Raises ValueError for an unknown mode or nonlinearity.
    """
    gain = _gain(nonlinearity, a)
    return _draw(module, _normal(generator), lambda layer: gain / _fan(layer, mode).sqrt())


def xavier_uniform_(module: M, gain: float = 1.0, generator: torch.Generator | None = None) -> M:
    """Draw weights uniformly within gain * sqrt(6 / (fan_in + fan_out)), Glorot & Bengio 2010."""
    return _draw(module, _uniform(generator), lambda layer: gain * math.sqrt(3) * _xavier(layer))


def xavier_normal_(module: M, gain: float = 1.0, generator: torch.Generator | None = None) -> M:
    """Draw weights from a normal of standard deviation gain * sqrt(2 / (fan_in + fan_out))."""
    return _draw(module, _normal(generator), lambda layer: gain * _xavier(layer))


def normal_(
    module: M, mean: float = 0.0, std: float = 1.0, generator: torch.Generator | None = None
) -> M:
    """Draw weights from a normal."""
    return _draw(module, lambda weight: weight.normal_(mean, std, generator=generator))


def uniform_(
    module: M, a: float = 0.0, b: float = 1.0, generator: torch.Generator | None = None
) -> M:
    """Draw weights uniformly from [a, b]."""
    return _draw(module, lambda weight: weight.uniform_(a, b, generator=generator))


def trunc_normal_(
    module: M,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: torch.Generator | None = None,
) -> M:
    """Draw weights from a normal, those outside [a, b] anew."""
    return _draw(
        module,
        lambda weight: nn.init.trunc_normal_(weight, mean, std, a, b, generator=generator),
    )


def constant_(module: M, val: float) -> M:
    """Set every weight to a value."""
    return _draw(module, lambda weight: weight.fill_(val))


def ones_(module: M) -> M:
    """Set every weight to one."""
    return constant_(module, 1.0)


def zeros_(module: M) -> M:
    """Set every weight to zero."""
    return constant_(module, 0.0)


def he_normal_(
    model: nn.Module,
    *,
    fan_in: FanIn = "dense",
    bias: float = 0.1,
    generator: torch.Generator | None = None,
) -> None:
    """Draw the weights of every linear layer from He's truncated normal and set its biases.

    Standard deviation sqrt(2 / fan_in), cut at two standard deviations before scaling, as Keras'
    `he_normal` (He et al. 2015, arXiv 1502.01852). The defaults are the recipe of the pre-defined
    sparsity papers (Dey et al. 2019, arXiv 1812.01164, code): the fan-in of the dense layer even
    where edges are missing, biases of 0.1. `fan_in="sparse"` counts the edges instead.

    Raises ValueError for an unknown fan-in rule.
    """
    check_fan_in_rule(fan_in)
    for layer in model.modules():
        if not isinstance(layer, (nn.Linear, SparseLinear)):
            continue
        nn.init.trunc_normal_(layer.weight, a=-2, b=2, generator=generator)
        with torch.no_grad():
            if isinstance(layer, SparseLinear):
                std = (2 / row_fan_in(layer, fan_in).clamp(min=1)).sqrt() / _TRUNCATED_STD
                layer.weight.mul_(std[:, None, None, None])
                clear_empty_slots_(layer)
            else:
                layer.weight.mul_(math.sqrt(2 / layer.in_features) / _TRUNCATED_STD)
            if layer.bias is not None:
                layer.bias.fill_(bias)


def _uniform(generator: torch.Generator | None) -> Callable[[Tensor], object]:
    return lambda weight: weight.uniform_(-1, 1, generator=generator)


def _normal(generator: torch.Generator | None) -> Callable[[Tensor], object]:
    return lambda weight: weight.normal_(generator=generator)


def _draw(
    module: M,
    sample_: Callable[[Tensor], object],
    spread: Callable[[Layer], Tensor] | None = None,
) -> M:
    """Fill the weight of each linear layer by `sample_`, times its spread, and return the module.

    Raises TypeError for a tensor, ValueError for a module without linear layers.
    """
    for layer in _layers(module):
        with torch.no_grad():
            sample_(layer.weight)
            if spread is not None:
                layer.weight.mul_(spread(layer))
            if isinstance(layer, SparseLinear):
                clear_empty_slots_(layer)
    return module


def _layers(module: nn.Module) -> list[Layer]:
    if isinstance(module, Tensor):
        raise TypeError(
            f"dnc_sparse.init takes a layer or a model, got a tensor of shape "
            f"{list(module.shape)}, which does not tell how many edges a neuron has; "
            f"write the layer instead of layer.weight"
        )
    layers = [m for m in module.modules() if isinstance(m, (SparseLinear, nn.Linear))]
    if not layers:
        raise ValueError(
            f"a {type(module).__name__} has no SparseLinear or nn.Linear to initialise; "
            f"torch.nn.init draws the weights of other layers"
        )
    for layer in layers:
        if "weight" not in layer._parameters:
            raise ValueError(
                f"the weight of a {type(layer).__name__} is computed from other parameters "
                f"(parametrization, weight_norm, pruning), so that values written to it would be "
                f"lost; initialise before that"
            )
    return layers


def _gain(nonlinearity: str, a: float) -> float:
    return nn.init.calculate_gain(nonlinearity, a)  # type: ignore[arg-type]


def _fan(layer: Layer, mode: Mode) -> Tensor:
    """Return the fan of each weight, at least one: broadcasts to the weight."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"unknown mode {mode!r}; choose 'fan_in' or 'fan_out'")
    fan = _fan_in(layer) if mode == "fan_in" else _fan_out(layer)
    return fan.clamp(min=1).to(layer.weight.dtype)


def _xavier(layer: Layer) -> Tensor:
    fans = (_fan_in(layer) + _fan_out(layer)).clamp(min=1)
    return (2 / fans).sqrt().to(layer.weight.dtype)


def _fan_in(layer: Layer) -> Tensor:
    if not isinstance(layer, SparseLinear):
        return torch.full((1, 1), layer.in_features, device=layer.weight.device).double()
    return row_fan_in(layer, "sparse").double()[:, None, None, None]


def _fan_out(layer: Layer) -> Tensor:
    if not isinstance(layer, SparseLinear):
        return torch.full((1, 1), layer.out_features, device=layer.weight.device).double()
    pattern = layer.pattern
    of_column = pattern.fan_outs[:: pattern.block[1]]
    fan_out = np.where(pattern.sources >= 0, of_column[pattern.sources], 0)
    return torch.from_numpy(fan_out).to(layer.weight.device).double()[:, :, None, None]

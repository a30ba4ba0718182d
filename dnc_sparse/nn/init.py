"""The initialisation of the pre-defined sparsity papers, for sparse and dense layers alike."""

from __future__ import annotations

import math

import torch
from torch import nn

from dnc_sparse.nn.linear import (
    FanIn,
    SparseLinear,
    check_fan_in_rule,
    clear_empty_slots_,
    row_fan_in,
)

# standard deviation of a unit normal cut at two standard deviations
_TRUNCATED_STD = 0.87962566103423978


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

"""Build the sparse layer that takes the place of a dense one, and put it there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from dnc_sparse.backends import reference
from dnc_sparse.nn.candidates import Candidate
from dnc_sparse.nn.hung import carried
from dnc_sparse.nn.linear import FanIn, SparseLinear, clear_empty_slots_, row_fan_in

# uniform samples are this many standard deviations of their estimate apart at most
_SURE = 6


def build(candidate: Candidate, *, keep: bool, rescale: bool, init_fan_in: FanIn) -> SparseLinear:
    """Return the sparse layer of a candidate, on its device, with its dtype and bias.

    With `keep` its weights are those on the edges, times sqrt(n_in / fan_in) with `rescale`.
    Otherwise they are drawn anew: as `SparseLinear` does where the layer looks as `nn.Linear` left
    it, else from the values of the same right neuron, times sqrt(n_in / fan_in), so that sums
    over the edges spread as sums over all inputs did; biases that were set are kept.
    """
    old = candidate.parameters
    weight, bias = candidate.weight, old.get("bias")
    layer = SparseLinear(
        *(candidate.n_in, candidate.n_out),
        pattern=candidate.pattern,
        bias=bias is not None,
        init_fan_in=init_fan_in,
        device=weight.device,
        dtype=weight.dtype,
    )
    bound = 1 / math.sqrt(candidate.n_in)
    with torch.no_grad():
        if keep:
            layer.weight.copy_(reference.edge_weight(weight, layer.pattern))
            if rescale:
                layer.weight.mul_(_growth(layer, "sparse")[:, None, None, None])
        elif not weight.is_meta and not _is_uniform(weight, bound):
            _redraw_(layer, weight, init_fan_in)
        if layer.bias is not None and bias is not None:
            drawn_anew = not keep and (bias.is_meta or _is_uniform(bias, bound))
            if not drawn_anew:
                layer.bias.copy_(bias)
    layer.train(candidate.layer.training)
    for name, parameter in layer.named_parameters():
        hand_over(old[name], parameter)
    if keep:
        _hand_over_gradients(candidate, layer)
    return layer


def edges_of(candidate: Candidate) -> Callable[[Tensor], Tensor]:
    """Return the function that reads the edges' entries of what has the shape of the weight."""
    pattern, transposed = candidate.pattern, candidate.transposed
    assert pattern is not None
    return lambda dense: reference.edge_weight(dense.T if transposed else dense, pattern)


def hand_over(old: nn.Parameter, new: nn.Parameter) -> None:
    """Give a parameter what its predecessor was, its values apart: flags, place in memory."""
    new.requires_grad_(old.requires_grad)
    vars(new).update(carried(old))
    if old.device.type == "cpu" and old.untyped_storage().is_shared():
        new.untyped_storage().share_memory_()


def place(model: nn.Module, names: Iterable[str], layer: nn.Module) -> None:
    """Put a layer into the model under all its names."""
    for name in names:
        model.set_submodule(name, layer)


def _growth(layer: SparseLinear, rule: FanIn) -> Tensor:
    """Return the factor for which sums of independent terms keep their spread: [rows]."""
    return (layer.in_features / row_fan_in(layer, rule).clamp(min=1)).sqrt()


def _is_uniform(values: Tensor, bound: float) -> bool:
    """Tell whether the values look as if drawn uniformly within the bound, as by nn.Linear."""
    n = values.numel()
    size = values.detach().double().abs()
    # the largest of n samples misses the bound by more than this once in e^_SURE cases
    gap = min(_SURE / n, 1)
    eps = torch.finfo(values.dtype).eps
    if not (1 - gap) * bound * (1 - eps) <= size.max() <= bound * (1 + eps):
        return False
    # the square of a uniform sample has mean 1/3 and variance 4/45
    mean = (size / bound).square().mean().item()
    return abs(mean - 1 / 3) <= _SURE * math.sqrt(4 / 45 / n) + eps


def _redraw_(layer: SparseLinear, dense: Tensor, rule: FanIn) -> None:
    """Draw each weight from those of its right neuron in a dense layer, spread for fewer edges."""
    pattern, (bo, bi) = layer.pattern, layer.pattern.block
    per_row = pattern.slots * bi
    chosen = torch.randint(dense.shape[1], (pattern.n_out, per_row), device=dense.device)
    drawn = dense.gather(1, chosen).view(pattern.rows, bo, pattern.slots, bi).transpose(1, 2)
    layer.weight.copy_(drawn)
    layer.weight.mul_(_growth(layer, rule)[:, None, None, None])
    clear_empty_slots_(layer)


def _hand_over_gradients(candidate: Candidate, layer: SparseLinear) -> None:
    move = edges_of(candidate)
    for name, parameter in layer.named_parameters():
        grad = candidate.parameters[name].grad
        if grad is not None:
            parameter.grad = move(grad) if name == "weight" else grad.clone()

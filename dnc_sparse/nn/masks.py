"""Patterns from what a model is already: its nonzero weights, or masks that somebody gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dnc_sparse.nn.candidates import Candidate, names_of
from dnc_sparse.nn.hung import is_pruned
from dnc_sparse.patterns import from_mask


def choose_nonzero(layers: Sequence[Candidate], block: tuple[int, int], dense_above: float) -> None:
    """Make each layer's nonzero weights its pattern; blocks with one nonzero are whole edges.

    A layer pruned by `torch.nn.utils.prune` has its mask as pattern. Left dense are layers above
    the density `dense_above` and those without a nonzero weight.

    Raises ValueError for weights on the meta device, which have no values.
    """
    for layer in layers:
        if layer.reason is not None:
            continue
        mask = _pruning_mask(layer)
        if mask is None:
            if layer.weight.is_meta:
                raise ValueError(
                    f"layer {layer.names[0]!r}: its weight is on the meta device and has no "
                    f"values yet; load the weights first, or give masks="
                )
            mask = layer.weight != 0
        mask = _whole_blocks(mask, block)
        density = mask.float().mean().item()
        if not density:
            layer.reason = "all its weights are zero"
        elif density == 1 or density > dense_above:
            layer.reason = (
                f"{density:.3g} of its weights are nonzero, more than dense_above={dense_above:.3g}"
                if density < 1
                else "none of its weights is zero"
            )
        else:
            layer.pattern = from_mask(mask, block)


def choose_masks(
    layers: Sequence[Candidate], masks: Mapping[str, Any], block: tuple[int, int]
) -> None:
    """Make the pattern of each layer from the mask under its name, or that of its weight.

    A mask has the shape of the layer's weight; layers without one are left dense.

    Raises ValueError for a name that fits no layer, a layer that cannot be sparse, and a mask of
    another shape, of other values than 0 and 1, or without an edge.
    """
    by_name = {name: layer for layer in layers for name in layer.names}
    chosen: dict[int, Any] = {}
    for name, mask in masks.items():
        path = str(name).removesuffix(".weight")
        layer = by_name.get(path)
        if layer is None:
            raise ValueError(
                f"masks names no linear layer: {name!r}; linear layers: {names_of(layers)}"
            )
        if id(layer) in chosen:
            raise ValueError(f"masks has two masks for layer {layer.names[0]!r}; give one")
        if layer.reason is not None:
            raise ValueError(
                f"masks has a mask for {name!r}, which cannot become sparse: {layer.reason}; "
                f"take the mask out, or what stands in the way"
            )
        chosen[id(layer)] = _checked(layer, mask, block)
    for layer in layers:
        if layer.reason is None:
            if id(layer) not in chosen:
                layer.reason = "no mask is given for it"
            elif chosen[id(layer)].all():
                layer.reason = "its mask has every edge, for which dense arithmetic is faster"
            else:
                layer.pattern = _from_mask(layer, chosen[id(layer)], block)


def _checked(layer: Candidate, mask: Any, block: tuple[int, int]) -> Tensor:
    """Return the mask as a bool tensor [n_out, n_in]."""
    name = layer.names[0]
    values = torch.as_tensor(mask).detach().cpu()
    shape = [layer.n_in, layer.n_out] if layer.transposed else [layer.n_out, layer.n_in]
    if list(values.shape) != shape:
        raise ValueError(
            f"the mask of {name!r} has shape {list(values.shape)}, its weight {shape}; "
            f"give one entry per weight"
        )
    if not ((values == 0) | (values == 1)).all():
        raise ValueError(
            f"the mask of {name!r} has other values than 0 and 1; "
            f"write mask = weight != 0, or mask = scores > threshold"
        )
    if not values.any():
        raise ValueError(f"the mask of {name!r} has no edge; set one at least, or skip the layer")
    result = values.bool()
    return result.T if layer.transposed else result


def _from_mask(layer: Candidate, mask: Tensor, block: tuple[int, int]) -> Any:
    try:
        return from_mask(mask, block)
    except ValueError as error:
        raise ValueError(f"layer {layer.names[0]!r}: {error}") from error


def _pruning_mask(candidate: Candidate) -> Tensor | None:
    layer: Any = candidate.layer
    if not is_pruned(layer) or layer.weight_mask.is_meta:
        return None
    mask: Tensor = layer.weight_mask.detach() != 0
    return mask.T if candidate.transposed else mask


def _whole_blocks(mask: Tensor, block: tuple[int, int]) -> Tensor:
    """Set every entry of a block that has one set."""
    bo, bi = block
    n_out, n_in = mask.shape
    blocks = mask.reshape(n_out // bo, bo, n_in // bi, bi)
    return blocks.any(1, keepdim=True).any(3, keepdim=True).expand_as(blocks).reshape(n_out, n_in)

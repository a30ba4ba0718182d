"""Replace the linear layers of any model by sparse ones, in place."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from dnc_sparse.nn.fused import avoid_fused_encoder
from dnc_sparse.nn.linear import FanIn, SparseLinear
from dnc_sparse.nn.mlp import junction_seeds
from dnc_sparse.nn.report import Report, ReportRow
from dnc_sparse.patterns import Pattern, nearest
from dnc_sparse.patterns.pattern import as_block

Skip = Collection[str] | Callable[[str, nn.Linear], bool]


@dataclass
class _Layer:
    """A linear layer under every name it has in the model, and what is decided about it."""

    linear: nn.Linear
    names: tuple[str, ...]
    reason: str | None = None
    asked: float | None = None
    pattern: Pattern | None = None

    @property
    def n_in(self) -> int:
        return self.linear.in_features

    @property
    def n_out(self) -> int:
        return self.linear.out_features

    @property
    def weights(self) -> int:
        return self.n_in * self.n_out if self.pattern is None else self.pattern.n_edges

    def row(self) -> ReportRow:
        """Return what was decided, for the report."""
        if self.reason is not None or self.pattern is None:
            note = f"left dense: {self.reason}"
        else:
            pattern = self.pattern
            degrees = f"fan_in {pattern.fan_in}, fan_out {pattern.fan_out}"
            note = f"{pattern.family}, {degrees}"
        return ReportRow(
            *(self.names, self.n_in, self.n_out, self.asked, self.weights),
            replaced=self.reason is None,
            note=note,
        )


def sparsify(
    model: nn.Module,
    density: float | None = None,
    *,
    budget: int | None = None,
    block: int | tuple[int, int] = 1,
    skip: Skip = (),
    min_size: int = 1024,
    family: str = "auto",
    seed: int = 0,
    keep_weights: bool = False,
    init_fan_in: FanIn = "sparse",
    **options: Any,
) -> Report:
    """Replace each `nn.Linear` inside the model by a `SparseLinear` and report what was done.

    Give `density`, the same for every layer, or `budget`, the number of weights that all replaced
    layers may have together (never exceeded, shared out so that densities are as even as the shapes
    allow). `skip` names layers, or modules with all that is in them, to leave alone; or is a
    function of (name, layer). `keep_weights` copies the weights on the chosen edges; otherwise they
    are drawn anew, before training, as in `SparseLinear`. `family`, `seed` and `options` choose the
    patterns; each layer has a seed of its own.

    Left dense, with the reason in the report: layers below `min_size` weights, where sparse
    arithmetic gains nothing; sizes that the block does not divide; subclasses, hooks and
    parametrizations, which rely on a dense weight, as the output projection of
    `nn.MultiheadAttention` does; weights shared with another module. Device, dtype, training mode
    and requires_grad are kept; a layer used in several places stays shared. Encoder layers stop
    using torch's fused kernel (`avoid_fused_encoder`).

    Call it before building the optimiser, which would hold on to the old weights. The model is
    changed only when every layer can be served.

    Raises ValueError when the model is itself an `nn.Linear`, for not exactly one of density and
    budget, a budget too small, a name in `skip` that fits no layer, or a pattern that does not
    exist.
    """
    if isinstance(model, nn.Linear):
        raise ValueError(
            "the model is itself an nn.Linear, which cannot be replaced in place; "
            "use SparseLinear.from_dense(model, density)"
        )
    size = as_block(block)
    if min(size) < 1:
        raise ValueError(f"block {size[0]}x{size[1]} must have sides of at least 1")
    layers = _find(model)
    _leave(model, layers, size, skip, min_size)
    candidates = [layer for layer in layers if layer.reason is None]
    _share_out(candidates, density, budget, size)
    for layer, layer_seed in zip(layers, junction_seeds(seed, len(layers)), strict=True):
        if layer.reason is None:
            _choose(layer, block=block, family=family, seed=layer_seed, **options)
    _check_budget(candidates, budget, family)
    for layer in layers:
        if layer.reason is None:
            _replace(model, layer, keep_weights, init_fan_in)
    avoid_fused_encoder(model)
    return Report(tuple(layer.row() for layer in layers))


def _find(model: nn.Module) -> list[_Layer]:
    """List the linear layers of a model, each once with all its names."""
    names = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Linear):
            names[module].append(name)
    return [_Layer(linear, tuple(found)) for linear, found in names.items()]


def _leave(
    model: nn.Module, layers: Sequence[_Layer], block: tuple[int, int], skip: Skip, min_size: int
) -> None:
    """Write into each layer that is to stay dense the reason why."""
    skipped = _skipped(layers, skip)
    owners = _owners(model)
    for layer in layers:
        if layer.names in skipped:
            layer.reason = "skipped, as asked"
        else:
            others = [o for p in layer.linear.parameters() for o in owners[p] if o != layer.names]
            layer.reason = (
                _unfit(layer.linear, block)
                or (f"its parameters are shared with {others[0][0]!r}" if others else None)
                or _too_small(layer.linear, min_size)
            )


def _skipped(layers: Sequence[_Layer], skip: Skip) -> set[tuple[str, ...]]:
    """Return the names of the layers to skip.

    Raises ValueError for a name that is no layer and no part of the path to one.
    """
    if callable(skip):
        return {x.names for x in layers if any(skip(name, x.linear) for name in x.names)}
    prefixes = [skip] if isinstance(skip, str) else list(skip)
    result = set()
    for prefix in prefixes:
        inside = {x.names for x in layers if any(f"{n}.".startswith(f"{prefix}.") for n in x.names)}
        if not inside:
            known = ", ".join(name for layer in layers for name in layer.names) or "none"
            raise ValueError(f"skip names no linear layer: {prefix!r}; linear layers: {known}")
        result |= inside
    return result


def _owners(model: nn.Module) -> dict[nn.Parameter, list[tuple[str, ...]]]:
    """Map each parameter to the modules that hold it, each module by all its names."""
    names = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        names[module].append(name)
    owners = defaultdict(list)
    for module, found in names.items():
        for parameter in module.parameters(recurse=False):
            owners[parameter].append(tuple(found))
    return owners


def _unfit(linear: nn.Linear, block: tuple[int, int]) -> str | None:
    """Say why this layer cannot be replaced; None when it can."""
    if isinstance(linear, NonDynamicallyQuantizableLinear):
        return "nn.MultiheadAttention reads its weight directly"
    if type(linear) is not nn.Linear:
        return f"a {type(linear).__name__} may rely on its dense weight"
    if linear._forward_hooks or linear._forward_pre_hooks or linear._backward_hooks:
        return "it has hooks, which would be lost"
    if linear.out_features % block[0] or linear.in_features % block[1]:
        return f"block {block[0]}x{block[1]} does not divide it"
    return None


def _too_small(linear: nn.Linear, min_size: int) -> str | None:
    size = linear.in_features * linear.out_features
    return f"{size:,} weights, fewer than min_size={min_size:,}" if size < min_size else None


def _share_out(
    layers: Sequence[_Layer], density: float | None, budget: int | None, block: tuple[int, int]
) -> None:
    """Write into each layer the density it is asked to have.

    Raises ValueError for not exactly one of density and budget, or one out of range.
    """
    if (density is None) == (budget is None):
        raise ValueError(f"give exactly one of density and budget; got {density} and {budget}")
    if density is not None:
        if not 0 < density <= 1:
            raise ValueError(f"density must lie in (0, 1], got {density}")
        for layer in layers:
            layer.asked = density
        return
    assert budget is not None
    bi = block[1]
    for layer in layers:
        layer.asked = bi / layer.n_in
    spent = sum(layer.n_out * bi for layer in layers)
    if spent > budget:
        raise ValueError(
            f"a budget of {budget:,} weights is too small: {len(layers)} layers with one "
            f"block per row need {spent:,}; raise the budget, or skip layers"
        )
    # the layer that stays sparsest with one block more per row goes first
    queue = [(2 * bi / layer.n_in, i, 2) for i, layer in enumerate(layers)]
    heapq.heapify(queue)
    while queue:
        share, i, blocks = heapq.heappop(queue)
        step = layers[i].n_out * bi
        if share <= 1 and spent + step <= budget:
            layers[i].asked = share
            spent += step
            heapq.heappush(queue, ((blocks + 1) * bi / layers[i].n_in, i, blocks + 1))


def _choose(layer: _Layer, **choice: Any) -> None:
    """Write the pattern into the layer, or leave the layer when it would have every edge."""
    # asked for 1, no pattern is drawn: with every edge it would be slow and large
    if layer.asked != 1:
        try:
            layer.pattern = nearest(layer.n_in, layer.n_out, density=layer.asked, **choice)
        except ValueError as error:
            raise ValueError(f"layer {layer.names[0]!r}: {error}") from error
    if layer.pattern is None or layer.pattern.density == 1:
        layer.reason = "density 1, for which dense arithmetic is faster"


def _check_budget(layers: Sequence[_Layer], budget: int | None, family: str) -> None:
    needed = sum(layer.weights for layer in layers)
    if budget is not None and needed > budget:
        raise ValueError(
            f"{family!r} patterns near the budget of {budget:,} weights need {needed:,}; "
            f"use family='auto', or a budget that much larger"
        )


def _replace(model: nn.Module, layer: _Layer, keep_weights: bool, init_fan_in: FanIn) -> None:
    """Put a sparse layer in the place of a dense one, under all its names."""
    linear = layer.linear
    if keep_weights:
        sparse = SparseLinear.from_dense(linear, pattern=layer.pattern, init_fan_in=init_fan_in)
    else:
        sparse = SparseLinear(
            *(layer.n_in, layer.n_out),
            pattern=layer.pattern,
            bias=linear.bias is not None,
            init_fan_in=init_fan_in,
            device=linear.weight.device,
            dtype=linear.weight.dtype,
        )
    sparse.train(linear.training)
    for name, parameter in sparse.named_parameters():
        parameter.requires_grad_(linear.get_parameter(name).requires_grad)
    for name in layer.names:
        model.set_submodule(name, sparse)

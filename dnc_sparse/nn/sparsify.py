"""Replace the linear layers of any model by sparse ones, in place."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from torch import nn
from torch.optim import Optimizer

from dnc_sparse.nn import candidates, densities, readers
from dnc_sparse.nn.candidates import Candidate, Skip
from dnc_sparse.nn.convert import build, edges_of
from dnc_sparse.nn.exchange import Replacement, replace
from dnc_sparse.nn.first_forward import explain_first_forward, read_layer
from dnc_sparse.nn.linear import FanIn, SparseLinear, check_fan_in_rule
from dnc_sparse.nn.masks import choose_masks, choose_nonzero
from dnc_sparse.nn.mlp import junction_seeds
from dnc_sparse.nn.optimizers import as_optimizers, watch
from dnc_sparse.nn.report import Report, other_weights, remember
from dnc_sparse.nn.wrapping import check_unwrapped
from dnc_sparse.patterns import nearest
from dnc_sparse.patterns.blocks import Auto, asked_block

Model = TypeVar("Model", bound=nn.Module)


def sparsify(
    model: Model,
    density: densities.Density | None = None,
    *,
    budget: int | None = None,
    pattern: str | None = None,
    masks: Mapping[str, Any] | None = None,
    block: int | tuple[int, int] | Auto = "auto",
    skip: Skip = (),
    min_size: int = 1024,
    dense_above: float = 0.5,
    family: str = "auto",
    seed: int = 0,
    keep_weights: bool | None = None,
    rescale: bool = False,
    init_fan_in: FanIn = "sparse",
    example: Any = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    **options: Any,
) -> Model:
    """Replace each `nn.Linear` inside the model by a `SparseLinear`; return the same model.

    `conversion_report(model)` tells what was done to each layer. Layers of transformers' `Conv1D`
    are replaced too. Give one of

    - `density`: one for every layer, or a mapping of names or globs to densities ("blocks.*": 0.25;
      a full name goes before a glob, the first of several globs is taken);
    - `budget`: the number of weights that all replaced layers may have together (never exceeded,
      shared out so that densities are as even as the shapes allow);
    - `pattern="nonzero"`: each layer keeps its nonzero weights and gives the same outputs; a mask
      of `torch.nn.utils.prune` becomes the pattern; layers above `dense_above` stay dense;
    - `masks`: a mask for each layer to replace, by the name of the layer or of its weight.

    `skip` names layers, or modules with all that is in them, by name or glob; or is a function of
    (name, layer). `family`, `seed` and `options` choose the patterns for a density or a budget;
    each layer has a seed of its own. By default each has a block of its own too, 8x8 where its
    sizes and density allow it, else 4x4, else 1x1 (see `SparseLinear`); for `pattern` and `masks`
    it is 1x1.

    `keep_weights` copies the weights on the edges (the default for `pattern` and `masks`), with
    `rescale` times sqrt(n_in / fan_in), so that sums spread as before. Otherwise weights are drawn
    anew: as in `SparseLinear` where a layer is as `nn.Linear` made it, else with the spread that
    the layer has, times sqrt(n_in / fan_in) (times 1 with `init_fan_in="dense"`).

    Left dense, with the reason in the report: layers below `min_size` weights (unless they have a
    mask), where sparse arithmetic gains nothing; sizes that the block does not divide; subclasses;
    layers with hooks, parametrizations, buffers or attributes of their own; the output projection
    of `nn.MultiheadAttention`; weights shared with another module or held outside the tree of
    modules. With `example` (a tuple of arguments, a mapping of keyword arguments, or one argument)
    the model is called on it once in its present mode, layers whose weight other code reads
    are left dense too, and the converted model is called once. Device, dtype, training
    mode, requires_grad and plain attributes of the parameters are kept; a layer used in
    several places stays shared. Encoder layers stop using torch's fused kernel.

    Call it before anything wraps the model (DDP, FSDP, torch.compile) and before building the
    optimiser; or hand over the `optimizer`, in which new parameters take the places of the old
    ones, with their moments where weights are kept. The model is changed only when every layer can
    be served. A model in which no layer was replaced is a warning.

    Raises ValueError when the model is itself a linear layer, for not exactly one of the four
    choices, a budget too small, a name that fits no layer, a mask that does not fit, or a pattern
    that does not exist; TypeError for arguments of a wrong type; RuntimeError for a model that is
    wrapped, for an optimiser that holds weights to be replaced, and when the converted model fails
    on the example.
    """
    asked = _checked_block(block)
    _check_model(model)
    _check_choice(density=density, budget=budget, pattern=pattern, masks=masks)
    kept = pattern is not None or masks is not None
    keep = kept if keep_weights is None else bool(keep_weights)
    if rescale and not keep:
        raise ValueError("rescale needs keep_weights=True: weights drawn anew have their spread")
    check_fan_in_rule(init_fan_in)
    if density is not None:
        densities.check_density(density)
    densities.check_number("dense_above", dense_above)
    seed = densities.check_whole("seed", seed)
    budget = None if budget is None else densities.check_whole("budget", budget)
    min_size = densities.check_whole("min_size", min_size)
    optimizers = as_optimizers(optimizer)
    check_unwrapped(model, "sparsify")

    layers = candidates.find(model)
    size = asked or (1, 1)
    candidates.leave_unfit(model, layers, size, pruned=kept)
    candidates.leave_skipped(layers, skip)
    if masks is None:
        candidates.leave_small(layers, min_size)
    if not keep:
        _leave_with_gradients(layers)
    if example is not None:
        _leave_read(model, layers, example)
    if masks is not None:
        choose_masks(layers, masks, size)
    elif pattern is not None:
        choose_nonzero(layers, size, dense_above)
    else:
        choice = {"block": asked or "auto", "family": family, **options}
        _choose(layers, density, budget, seed, choice)
    others = other_weights(model, [layer.layer for layer in layers])
    replacements = [
        _replacement(layer, build(layer, keep=keep, rescale=rescale, init_fan_in=init_fan_in))
        for layer in layers
        if layer.reason is None
    ]
    verify = partial(_call_converted, model, example) if example is not None else None
    replace(model, replacements, optimizers, verb="sparsify", keep=keep, verify=verify)
    if example is None and replacements:
        explain_first_forward(model, [name for one in replacements for name in one.names])
    report = Report(tuple(layer.row() for layer in layers), others)
    old = [weakref.ref(p) for r in replacements for p in r.old.parameters()]
    # whoever still holds a parameter after this is not this function
    layers.clear()
    replacements.clear()
    watch(old)
    remember(model, report)
    if not report.replaced:
        warnings.warn(_nothing(report), stacklevel=2)
    return model


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"sparsify takes a model, an nn.Module, and changes it in place; "
            f"got a {type(model).__name__}"
        )
    if isinstance(model, SparseLinear):
        raise ValueError("the model is itself a SparseLinear; build one of another density instead")
    if isinstance(model, nn.Linear):
        raise ValueError(
            "the model is itself an nn.Linear, which cannot be replaced in place; "
            "use SparseLinear.from_dense(model, density)"
        )
    kind = candidates.conv1d()
    if kind is not None and isinstance(model, kind):
        raise ValueError(
            "the model is itself a Conv1D, which cannot be replaced in place; "
            "put it into an nn.Sequential"
        )


def _checked_block(block: int | tuple[int, int] | Auto) -> tuple[int, int] | None:
    size = asked_block(block)
    if size is not None and min(size) < 1:
        raise ValueError(f"block {size[0]}x{size[1]} must have sides of at least 1")
    return size


def _check_choice(**choices: object) -> None:
    """Raise unless exactly one of the ways to choose the edges is given, in a form that it has."""
    given = [name for name, value in choices.items() if value is not None]
    if len(given) != 1:
        got = " and ".join(f"{name}={choices[name]!r}" for name in given) or "none"
        raise ValueError(f"give exactly one of density, budget, pattern and masks; got {got}")
    pattern, masks = choices["pattern"], choices["masks"]
    if pattern is not None and pattern != "nonzero":
        raise ValueError(
            f"pattern takes 'nonzero', the weights that are not zero; got {pattern!r}. "
            f"Families are named by family=, masks given by masks={{name: mask}}"
        )
    if masks is not None and not isinstance(masks, Mapping):
        raise TypeError(
            f"masks must map names of layers to masks, got a {type(masks).__name__}; "
            f"write masks={{'body.0': mask}}"
        )


def _leave_with_gradients(layers: Sequence[Candidate]) -> None:
    for layer in layers:
        if layer.reason is None and any(p.grad is not None for p in layer.layer.parameters()):
            layer.reason = (
                "it has gradients, which do not belong to weights drawn anew; "
                "call model.zero_grad() first, or keep_weights"
            )


def _leave_read(model: nn.Module, layers: Sequence[Candidate], example: Any) -> None:
    """Leave dense the layers whose weight other code reads while the model is called."""
    fit = [layer for layer in layers if layer.reason is None]
    watch = readers.observe(model, [layer.layer for layer in fit], example)
    for layer in fit:
        if layer.layer in watch.readers:
            layer.reason = f"its weight is read by {watch.readers[layer.layer]}"
        elif layer.layer not in watch.called:
            layer.remarks.append("never called on the example")


def _call_converted(model: nn.Module, example: Any) -> None:
    try:
        readers.call(model, example)
    except Exception as error:
        read = read_layer(error.__traceback__, model)
        named = "" if read is None else f" ({read[1].format(read[0])})"
        raise RuntimeError(
            f"the model runs on the example while dense but not after its conversion, which was "
            f"undone: {error}{named}; name in skip= the layers that this code cannot do without"
        ) from error


def _choose(
    layers: Sequence[Candidate],
    density: densities.Density | None,
    budget: int | None,
    seed: int,
    choice: Mapping[str, Any],
) -> None:
    """Draw a pattern for each layer, or leave the layer when it would have every edge."""
    blocks = densities.share_out(layers, density, budget, choice)
    chosen = [layer for layer in layers if layer.reason is None]
    for layer, layer_seed in zip(layers, junction_seeds(seed, len(layers)), strict=True):
        if layer.reason is not None:
            continue
        # asked for 1, no pattern is drawn: with every edge it would be slow and large
        if layer.asked != 1:
            try:
                layer.pattern = nearest(
                    *(layer.n_in, layer.n_out),
                    density=layer.asked,
                    seed=layer_seed,
                    **{**choice, "block": blocks.get(layer.names[0], choice["block"])},
                )
            except ValueError as error:
                raise ValueError(f"layer {layer.names[0]!r}: {error}") from error
        if layer.pattern is None or layer.pattern.density == 1:
            layer.reason = "density 1, for which dense arithmetic is faster"
    if budget is not None:
        densities.check_budget(chosen, budget, choice["family"])


def _replacement(layer: Candidate, sparse: SparseLinear) -> Replacement:
    return Replacement(layer.names, layer.layer, sparse, sparse, edges_of(layer))


def _nothing(report: Report) -> str:
    """Say why no layer was replaced."""
    if not report.rows:
        return "sparsify replaced no layer: the model has no nn.Linear; its report lists the others"
    notes = [f"{row.names[0]!r} {row.note}" for row in report.rows[:3]]
    more = f"; and {len(report.rows) - 3} more" if len(report.rows) > 3 else ""
    sparse = any(row.before is not None for row in report.rows)
    again = "; layers that are sparse keep their pattern, densify(model) first to choose anew"
    return f"sparsify replaced no layer: {'; '.join(notes)}{more}{again * sparse}"

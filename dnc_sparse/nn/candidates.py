"""The layers of a model that `sparsify` may replace, and why it leaves one of them dense."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.parameter import is_lazy

from dnc_sparse.nn.hung import hung_on, is_pruned
from dnc_sparse.nn.linear import SparseLinear
from dnc_sparse.nn.report import ReportRow
from dnc_sparse.nn.roads import Roads
from dnc_sparse.patterns import Pattern

Skip = str | Collection[str] | Callable[[str, nn.Module], bool] | None

# those that the kernels compute in
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass
class Candidate:
    """A linear layer under every name it has in the model, and what is decided about it."""

    layer: nn.Module
    names: tuple[str, ...]
    reason: str | None = None
    asked: float | None = None
    pattern: Pattern | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def transposed(self) -> bool:
        """Whether the weight lies as [n_in, n_out], as in transformers' `Conv1D`."""
        return not isinstance(self.layer, (nn.Linear, SparseLinear))

    @property
    def n_in(self) -> int:
        layer: Any = self.layer
        return int(layer.nx if self.transposed else layer.in_features)

    @property
    def n_out(self) -> int:
        layer: Any = self.layer
        return int(layer.nf if self.transposed else layer.out_features)

    @property
    def weight(self) -> Tensor:
        """The weight that the layer multiplies by, masks of nn.utils.prune applied.

        Shape [n_out, n_in].
        """
        layer: Any = self.layer
        masked = is_pruned(self.layer)
        weight: Tensor = layer.weight_orig * layer.weight_mask if masked else layer.weight
        weight = weight.detach()
        return weight.T if self.transposed else weight

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The layer's parameters by the names they will have, weight and bias."""
        return {name.removesuffix("_orig"): p for name, p in self.layer.named_parameters()}

    @property
    def weights(self) -> int:
        return self.n_in * self.n_out if self.pattern is None else self.pattern.n_edges

    def called(self, name: str) -> bool:
        """Tell whether `name`, a name or a glob, is this layer or a module around it."""
        return any(
            path == name or fnmatchcase(path, name) for own in self.names for path in _paths(own)
        )

    def row(self) -> ReportRow:
        """Return what was decided, for the report."""
        if isinstance(self.layer, SparseLinear) or self.reason is None:
            assert self.pattern is not None
            note = describe(self.pattern)
            note = note if self.reason is None else f"{self.reason}: {note}"
        else:
            note = f"left dense: {self.reason}"
        return ReportRow(
            *(self.names, self.n_in, self.n_out, self.asked, self.weights),
            replaced=self.reason is None,
            note="; ".join([note, *self.remarks]),
            before=self.layer.n_edges if isinstance(self.layer, SparseLinear) else None,
        )


def describe(pattern: Pattern) -> str:
    """Name the family, the block and the degrees of a pattern, for a report."""
    bo, bi = pattern.block
    degrees = f"fan_in {pattern.fan_in}, fan_out {pattern.fan_out}"
    return f"{pattern.spec['family']} {bo}x{bi}, {degrees}"


def conv1d() -> type[nn.Module] | None:
    """Return transformers' `Conv1D`; None when no code has imported it, so no model has one."""
    module = sys.modules.get("transformers.pytorch_utils")
    kind: type[nn.Module] | None = getattr(module, "Conv1D", None)
    return kind


def find(model: nn.Module) -> list[Candidate]:
    """List the linear layers of a model, each once with all its names, sparse ones among them."""
    kinds = tuple(kind for kind in (nn.Linear, SparseLinear, conv1d()) if kind is not None)
    names = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, kinds):
            names[module].append(name)
    layers = [Candidate(layer, tuple(found)) for layer, found in names.items()]
    for layer in layers:
        if isinstance(layer.layer, SparseLinear):
            layer.reason, layer.pattern = "sparse already", layer.layer.pattern
    return layers


def leave_unfit(
    model: nn.Module, layers: Sequence[Candidate], block: tuple[int, int], *, pruned: bool
) -> None:
    """Write into each layer that cannot be replaced the reason why.

    With `pruned` the masks of nn.utils.prune are understood.
    """
    owners, ties = _owners(model), _ties(model)
    roads = Roads(model, [layer.layer for layer in layers])
    for layer in layers:
        if layer.reason is None:
            layer.reason = (
                _unfit(layer, block, pruned)
                or _shared(layer, owners)
                or _tied(layer, ties)
                or roads.memory(layer.layer)
                or roads.other(layer.layer)
            )


def leave_skipped(layers: Sequence[Candidate], skip: Skip) -> None:
    """Write into each layer to be skipped that it is.

    Raises ValueError for a name that is no layer and no part of the path to one, TypeError for a
    skip that is neither names nor a function.
    """
    for layer in _skipped(layers, skip):
        if not isinstance(layer.layer, SparseLinear):
            layer.reason = "skipped, as asked"


def leave_small(layers: Sequence[Candidate], min_size: int) -> None:
    """Write into each layer with fewer than `min_size` weights that it stays dense for that."""
    for layer in layers:
        size = layer.n_in * layer.n_out
        if layer.reason is None and size < min_size:
            layer.reason = f"{size:,} weights, fewer than min_size={min_size:,}"


def names_of(layers: Sequence[Candidate]) -> str:
    """List the names of the layers, for an error."""
    return ", ".join(name for layer in layers for name in layer.names) or "none"


def _paths(name: str) -> list[str]:
    """Return the name and those of the modules around it."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _skipped(layers: Sequence[Candidate], skip: Skip) -> list[Candidate]:
    if skip is None:
        return []
    if callable(skip):
        return [x for x in layers if any(skip(name, x.layer) for name in x.names)]
    if not isinstance(skip, (str, Collection)):
        raise TypeError(
            f"skip takes names, globs, a function of (name, layer), or None; "
            f"got {skip!r} ({type(skip).__name__})"
        )
    result = []
    for name in [skip] if isinstance(skip, str) else skip:
        if not isinstance(name, str):
            raise TypeError(
                f"skip holds {name!r} ({type(name).__name__}), which is no name; "
                f"write names as model.named_modules() gives them, such as {layers[0].names[0]!r}"
                if layers
                else f"skip holds {name!r} ({type(name).__name__}), which is no name"
            )
        inside = [layer for layer in layers if layer.called(name)]
        if not inside:
            known = names_of(layers)
            raise ValueError(f"skip names no linear layer: {name!r}; linear layers: {known}")
        result += inside
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


def _shared(layer: Candidate, owners: dict[nn.Parameter, list[tuple[str, ...]]]) -> str | None:
    others = [o for p in layer.layer.parameters() for o in owners[p] if o != layer.names]
    return f"its parameters are shared with {others[0][0]!r}" if others else None


def _ties(model: nn.Module) -> dict[str, str]:
    """Map names of weights to those that transformers ties them to, both ways.

    Its models list them; `from_pretrained` builds a model untied and ties it after loading.
    """
    ties: dict[str, str] = {}
    for prefix, module in model.named_modules():
        keys = getattr(module, "all_tied_weights_keys", None)
        if not isinstance(keys, Mapping):
            continue
        for target, source in keys.items():
            one, other = (f"{prefix}.{name}" if prefix else name for name in (target, source))
            ties |= {one: other, other: one}
    return ties


def _tied(layer: Candidate, ties: Mapping[str, str]) -> str | None:
    others = [ties[f"{name}.weight"] for name in layer.names if f"{name}.weight" in ties]
    return f"its weight is tied to {others[0]!r}" if others else None


def _unfit(candidate: Candidate, block: tuple[int, int], pruned: bool) -> str | None:
    """Say why this layer cannot be replaced; None when it can."""
    layer = candidate.layer
    if isinstance(layer, NonDynamicallyQuantizableLinear):
        return "nn.MultiheadAttention reads its weight directly"
    if type(layer) not in (nn.Linear, conv1d()):
        return f"a {type(layer).__name__} may rely on its dense weight"
    hung = hung_on(layer, pruned=pruned)
    if hung is not None:
        return hung
    weight = candidate.weight
    if is_lazy(weight) or list(weight.shape) != [candidate.n_out, candidate.n_in]:
        return (
            f"its weight has shape {list(weight.shape)}, "
            f"not [{candidate.n_out}, {candidate.n_in}] as its sizes say"
        )
    if weight.dtype not in DTYPES:
        return f"its weight is {weight.dtype}, for which there are no sparse kernels"
    if candidate.n_out % block[0] or candidate.n_in % block[1]:
        return f"block {block[0]}x{block[1]} does not divide it"
    return None

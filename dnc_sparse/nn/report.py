"""What a conversion did to each linear layer of a model, as data and as a table.

Conversions return the model; what they did is asked for afterwards, by `conversion_report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

_HEADER = ("layer", "inputs -> outputs", "asked", "density", "weights", "what was done")


@dataclass(frozen=True)
class ReportRow:
    """One linear layer: its names in the model, sizes, densities and what was done, with why.

    `asked` is None where no density was asked of the layer; `weights` counts those in use
    afterwards, biases not among them, and `before` those of a layer that was sparse already.
    """

    names: tuple[str, ...]
    n_in: int
    n_out: int
    asked: float | None
    weights: int
    replaced: bool
    note: str
    before: int | None = None

    @property
    def density(self) -> float:
        """Weights / (n_in * n_out)."""
        return self.weights / max(self.n_in * self.n_out, 1)


@dataclass(frozen=True)
class OtherWeights:
    """A module with weights that was not looked at: its name in the model, class and weights.

    `share` is that of all weights that the model had; weights are parameters with two dimensions or
    more.
    """

    name: str
    kind: str
    weights: int
    share: float


@dataclass(frozen=True, repr=False)
class Report:
    """All linear layers of a model after a conversion, and the modules that were not looked at.

    Printing it gives aligned tables.
    """

    rows: tuple[ReportRow, ...]
    others: tuple[OtherWeights, ...] = ()
    verb: str = "replaced"

    @property
    def replaced(self) -> tuple[ReportRow, ...]:
        """The layers that were replaced."""
        return tuple(row for row in self.rows if row.replaced)

    @property
    def weights_before(self) -> int:
        """Weights of all linear layers before: those of a dense layer, unless a row says less."""
        return sum(row.n_in * row.n_out if row.before is None else row.before for row in self.rows)

    @property
    def weights_after(self) -> int:
        """Weights of all linear layers now."""
        return sum(row.weights for row in self.rows)

    def __str__(self) -> str:
        """Return the table, one line a layer, and a line of totals."""
        lines = [_HEADER, *(_cells(row) for row in self.rows)]
        before, after = self.weights_before, self.weights_after
        total = f"{len(self.replaced)} of {len(self.rows)} layers {self.verb}"
        full = sum(row.n_in * row.n_out for row in self.rows)
        lines.append(("total", "", "", f"{after / max(full, 1):.4g}", f"{after:,}", total))
        text = _aligned(lines) + f"\n{before:,} weights in linear layers became {after:,}"
        if self.others:
            header = ("not looked at", "class", "weights", "of all")
            cells = [(o.name, o.kind, f"{o.weights:,}", f"{o.share:.1%}") for o in self.others]
            text += "\n" + _aligned([header, *cells], "<<>>")
        return text

    __repr__ = __str__


# by identity, as a module may define its own equality; beside the models, so that copies, pickles
# and states of a model hold no report
_REPORTS = WeakIdKeyDictionary()


def conversion_report(model: nn.Module) -> Report:
    """Return what the last conversion of this model object did to each of its linear layers.

    Conversions are `sparsify`, `densify` and `sparsify_like`. A copy of the model, a wrapper around
    it and what is loaded from a file are other objects, without a report.

    Raises ValueError for a model that was not converted in this process, TypeError for what is no
    model.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"conversion_report takes the model that sparsify returned; "
            f"got a {type(model).__name__}"
        )
    if model not in _REPORTS:
        raise ValueError(
            f"this {type(model).__name__} was not converted in this process: no sparsify, densify "
            f"or sparsify_like changed it. A report belongs to the very model that sparsify "
            f"returned, not to a copy of it, a part, a wrapper, or a model loaded from a file"
        )
    report: Report = _REPORTS[model]
    return report


def remember(model: nn.Module, report: Report) -> None:
    """Keep the report of a conversion for as long as the model lives."""
    _REPORTS[model] = report


def other_weights(model: nn.Module, layers: Sequence[nn.Module]) -> tuple[OtherWeights, ...]:
    """List the modules with weights that are in none of the layers; largest first."""
    seen = {parameter for layer in layers for parameter in layer.parameters()}
    total = sum(_size(parameter) for parameter in model.parameters())
    sizes = []
    for name, module in model.named_modules():
        fresh = [p for p in module.parameters(recurse=False) if p not in seen]
        seen.update(fresh)
        size = sum(map(_size, fresh))
        if size:
            sizes.append((name or "(the model)", type(module).__name__, size))
    sizes.sort(key=lambda item: -item[2])
    return tuple(OtherWeights(*item, share=item[2] / total) for item in sizes)


def _size(parameter: nn.Parameter) -> int:
    return 0 if is_lazy(parameter) or parameter.dim() < 2 else parameter.numel()


def _cells(row: ReportRow) -> tuple[str, ...]:
    return (
        " = ".join(row.names),
        f"{row.n_in} -> {row.n_out}",
        "-" if row.asked is None else f"{row.asked:.4g}",
        f"{row.density:.4g}",
        f"{row.weights:,}",
        row.note,
    )


def _aligned(lines: Sequence[tuple[str, ...]], align: str = "<<>>><") -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(f"{c:{a}{w}}" for c, a, w in zip(line, align, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(text)

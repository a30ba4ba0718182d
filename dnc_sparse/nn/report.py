"""What `sparsify` did to each linear layer, as data and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_HEADER = ("layer", "inputs -> outputs", "asked", "density", "weights", "what was done")


@dataclass(frozen=True)
class ReportRow:
    """One linear layer: its names in the model, sizes, densities and what was done, with why.

    `asked` is None where the layer was never a candidate; `weights` counts those in use afterwards,
    biases not among them.
    """

    names: tuple[str, ...]
    n_in: int
    n_out: int
    asked: float | None
    weights: int
    replaced: bool
    note: str

    @property
    def density(self) -> float:
        """Weights / (n_in * n_out)."""
        return self.weights / max(self.n_in * self.n_out, 1)


@dataclass(frozen=True, repr=False)
class Report:
    """All linear layers of a model after `sparsify`; printing it gives an aligned table."""

    rows: tuple[ReportRow, ...]

    @property
    def replaced(self) -> tuple[ReportRow, ...]:
        """The layers that are sparse now."""
        return tuple(row for row in self.rows if row.replaced)

    @property
    def weights_before(self) -> int:
        """Weights of all linear layers when they were dense."""
        return sum(row.n_in * row.n_out for row in self.rows)

    @property
    def weights_after(self) -> int:
        """Weights of all linear layers now."""
        return sum(row.weights for row in self.rows)

    def __str__(self) -> str:
        """Return the table, one line a layer, and a line of totals."""
        lines = [_HEADER, *(_cells(row) for row in self.rows)]
        before, after = self.weights_before, self.weights_after
        total = f"{len(self.replaced)} of {len(self.rows)} layers replaced"
        lines.append(("total", "", "", f"{after / max(before, 1):.4g}", f"{after:,}", total))
        return _aligned(lines) + f"\n{before:,} weights in linear layers became {after:,}"

    __repr__ = __str__


def _cells(row: ReportRow) -> tuple[str, ...]:
    return (
        " = ".join(row.names),
        f"{row.n_in} -> {row.n_out}",
        "-" if row.asked is None else f"{row.asked:.4g}",
        f"{row.density:.4g}",
        f"{row.weights:,}",
        row.note,
    )


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    align = ("<", "<", ">", ">", ">", "<")
    text = [
        "  ".join(f"{c:{a}{w}}" for c, a, w in zip(line, align, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(text)

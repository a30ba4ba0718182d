"""A picture of a pattern: adjacency, banks, and the degrees in its margins."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnc_sparse.patterns.pattern import Pattern

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# more cells than a figure has pixels would alias, so larger patterns show local densities
MAX_CELLS = 256
MAX_BANK_LINES = 32
FIGURE: dict[str, Any] = {"figsize": (7, 6), "layout": "constrained"}


def plot(pattern: Pattern, ax: Axes | None = None) -> Axes:
    """Draw the adjacency (outputs down, inputs across) and return its axes.

    Up to 256 neurons a side every edge is drawn; beyond, cells of neurons are shaded by their
    density, the mean of the pattern being half tone. Contiguous banks are marked by lines. Margins
    show each fan_out (above) and fan_in (right). Raises ImportError, with the way out, without
    matplotlib.
    """
    whole_numbers = _matplotlib("ticker").MaxNLocator
    if ax is None:
        _, ax = _matplotlib("pyplot").subplots(**FIGURE)
    picture = _cells(pattern)
    every_edge = max(pattern.n_in, pattern.n_out) <= MAX_CELLS
    box = (-0.5, pattern.n_in - 0.5, pattern.n_out - 0.5, -0.5)
    ax.imshow(
        picture,
        cmap="Blues",
        vmin=0,
        vmax=1 if every_edge else min(2 * pattern.density, 1) or 1,
        extent=box,
        aspect="auto",
        interpolation="nearest",
    )
    for boundary in _bank_boundaries(pattern):
        ax.axvline(boundary - 0.5, color="tab:orange", linewidth=0.8)
    ax.set_xlabel("input neuron")
    ax.set_ylabel("output neuron")
    above = ax.inset_axes((0, 1.02, 1, 0.14), sharex=ax)
    beside = ax.inset_axes((1.02, 0, 0.14, 1), sharey=ax)
    above.fill_between(*_steps(pattern.fan_outs), color="tab:blue", linewidth=0)
    beside.fill_betweenx(*_steps(pattern.fan_ins), color="tab:blue", linewidth=0)
    above.set_ylim(0, 1.15 * max(pattern.fan_out, 1))
    beside.set_xlim(0, 1.15 * max(pattern.fan_in, 1))
    above.set_ylabel("fan_out")
    beside.set_xlabel("fan_in")
    above.tick_params(labelbottom=False)
    beside.tick_params(labelleft=False)
    for axis in (ax.xaxis, ax.yaxis, above.yaxis, beside.xaxis):
        axis.set_major_locator(whole_numbers("auto", integer=True, min_n_ticks=1))
    above.yaxis.set_major_locator(whole_numbers(2, integer=True))
    beside.xaxis.set_major_locator(whole_numbers(2, integer=True))
    above.set_title(_title(pattern), fontsize="medium")
    return ax


def save(pattern: Pattern, path: Path) -> None:
    """Draw a pattern into a file, in the format of its suffix; no display is needed."""
    figure = _matplotlib("figure").Figure(**FIGURE)
    plot(pattern, figure.subplots())
    figure.savefig(path, dpi=150)


def _matplotlib(module: str) -> Any:
    try:
        return import_module(f"matplotlib.{module}")
    except ImportError as error:
        raise ImportError(
            "drawing a pattern needs matplotlib: pip install 'dnc-sparse[plot]'"
        ) from error


def _cells(pattern: Pattern) -> NDArray[np.float64]:
    """Return the density of each picture cell: at most [256, 256]."""
    tall, wide = min(pattern.n_out, MAX_CELLS), min(pattern.n_in, MAX_CELLS)
    bo, bi = pattern.block
    row, column = pattern.edge_rows.astype(np.int64), pattern.indices.astype(np.int64)
    # neurons of each edge block: [edge blocks, bo, bi]
    output = (row[:, None] * bo + np.arange(bo))[:, :, None]
    source = (column[:, None] * bi + np.arange(bi))[:, None, :]
    cell = output * tall // pattern.n_out * wide + source * wide // pattern.n_in
    edges = np.bincount(cell.reshape(-1), minlength=tall * wide).reshape(tall, wide)
    heights = np.bincount(np.arange(pattern.n_out) * tall // pattern.n_out)
    widths = np.bincount(np.arange(pattern.n_in) * wide // pattern.n_in)
    return edges / np.outer(heights, widths)


def _bank_boundaries(pattern: Pattern) -> range:
    banks = pattern.options.get("banks", 1)
    if banks > MAX_BANK_LINES or pattern.options.get("bank_map", "blocked") != "blocked":
        return range(0)
    depth = pattern.n_in // banks
    return range(depth, pattern.n_in, depth)


def _steps(degrees: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return the outline of one bar per neuron."""
    n = len(degrees)
    return np.repeat(np.arange(n + 1) - 0.5, 2)[1:-1], np.repeat(degrees, 2)


def _title(pattern: Pattern) -> str:
    banks = pattern.options.get("banks")
    parts = [
        f"{pattern.family} {pattern.n_in} → {pattern.n_out}",
        f"{pattern.n_edges} edges",
        f"density {pattern.density:.3g}",
    ]
    if banks:
        parts.append(f"{banks} {pattern.options.get('bank_map', 'blocked')} banks")
    if pattern.block != (1, 1):
        parts.append(f"blocks {pattern.block[0]}x{pattern.block[1]}")
    return ", ".join(parts)

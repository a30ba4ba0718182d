"""A network drawn: its layers as bars, what connects them as bands as dense as the connection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from dnc_search.figures import new_figure
from dnc_sparse.nn import SparseLinear

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# width of a layer's bar, distance between bars
BAR, STEP = 0.22, 1.6


@dataclass(frozen=True)
class Connection:
    """A layer of weights: neurons (or channels) before and after it, and its edges."""

    n_in: int
    n_out: int
    edges: int
    density: float
    kind: str

    @property
    def label(self) -> str:
        """What is written on it."""
        thinned = "" if self.density == 1 else f"\ndensity {self.density:.3g}"
        return f"{self.kind}\n{self.edges:,} weights{thinned}"


def connections(model: nn.Module) -> list[Connection]:
    """Return the layers of weights of a network, in the order in which it holds them."""
    found = [_connection(module) for module in model.modules()]
    return [connection for connection in found if connection is not None]


def network(model: nn.Module, title: str = "") -> Figure:
    """Draw the layers of a network from left to right.

    A bar's height goes with the logarithm of the layer's size, a band's darkness with the density.
    """
    layers = connections(model)
    figure = new_figure((1.6 + 1.75 * max(1, len(layers)), 2.6))
    ax = figure.subplots()
    ax.set_axis_off()
    ax.set_title(title, fontsize=10)
    if not layers:
        return figure
    sizes = [layers[0].n_in] + [layer.n_out for layer in layers]
    for index, size in enumerate(sizes):
        _bar(ax, index * STEP, size)
    for index, layer in enumerate(layers):
        _band(ax, index * STEP, layer)
    ax.set_xlim(-0.3, (len(sizes) - 1) * STEP + BAR + 0.3)
    highest = max(map(_height, sizes))
    ax.set_ylim(-highest / 2 - 1.1, highest / 2 + 0.4)
    return figure


def _connection(module: nn.Module) -> Connection | None:
    if isinstance(module, SparseLinear):
        pattern = module.pattern
        block = "x".join(map(str, pattern.block))
        kind = "sparse" if pattern.block == (1, 1) else f"sparse {block}"
        return Connection(pattern.n_in, pattern.n_out, pattern.n_edges, pattern.density, kind)
    if isinstance(module, nn.Linear):
        edges = module.weight.numel()
        return Connection(module.in_features, module.out_features, edges, 1.0, "dense")
    if isinstance(module, nn.Conv2d):
        size = "x".join(map(str, module.kernel_size))
        edges = module.weight.numel()
        return Connection(module.in_channels, module.out_channels, edges, 1.0, f"conv {size}")
    return None


def _height(size: int) -> float:
    return 0.4 + 0.3 * math.log2(size + 1)


def _bar(ax: Axes, x: float, size: int) -> None:
    height = _height(size)
    ax.fill_between([x, x + BAR], -height / 2, height / 2, color="#1f77b4")
    ax.text(x + BAR / 2, height / 2 + 0.1, str(size), ha="center", fontsize=9)


def _band(ax: Axes, x: float, layer: Connection) -> None:
    left, right = _height(layer.n_in) / 2, _height(layer.n_out) / 2
    # from 1/64 on a band can be told from the paper
    alpha = 0.08 + 0.5 * max(0.0, 1 + math.log2(max(layer.density, 1e-9)) / 6)
    ends = [x + BAR, x + STEP]
    ax.fill_between(ends, [-left, -right], [left, right], color="#ff7f0e", alpha=min(alpha, 0.6))
    middle = x + (BAR + STEP) / 2
    ax.text(middle, -max(left, right) - 0.1, layer.label, ha="center", va="top", fontsize=8)

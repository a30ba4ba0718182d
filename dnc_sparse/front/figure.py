"""The picture of a front: test accuracy against seconds, parameters and memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dnc_sparse.front.report import Point, families, front, spent_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# a front's colour and mark
LOOKS = {
    "sparse": ("C0", "o", "-"),
    "dense, torch": ("0.25", "s", "-"),
    "dense, oneDNN": ("0.55", "D", "--"),
}
LABELS = {"sparse": "sparse (dnc-sparse)", "dense, torch": "dense (nn.Linear)"}
TITLES = {
    "seconds": "seconds of training",
    "parameters": "parameters",
    "memory": "peak memory of training, MiB",
}


def draw(rows: Sequence[Point], title: str, path: Path) -> None:
    """Draw the points and their fronts into an image file.

    Filled marks on the steps are the front: the network with the best validation accuracy that a
    cost affords. Bars are 95 % intervals over seeds, figures beside the marks widths and densities.
    Raises ImportError, with the way out, without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    except ImportError as error:
        raise ImportError(
            "drawing a front needs matplotlib: pip install 'dnc-sparse[plot]'"
        ) from error
    costs = spent_on(rows)
    figure = Figure(figsize=(4.4 * len(costs), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(costs), sharey=True)
    for ax, (what, (_, cost)) in zip(panels, costs.items(), strict=True):
        # kernels differ in time only
        shown = [row for row in rows if what == "seconds" or row.kernels != "oneDNN"]
        for name, group in families(shown).items():
            _draw_family(ax, name, group, cost)
        ax.set_xlabel(TITLES[what])
        if what != "memory":
            ax.set_xscale("log")
            # 1, 2, 5, 10, as people write them
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, place: _plain(value)))
            ax.xaxis.set_minor_formatter(NullFormatter())
        ax.margins(y=0.12)
        ax.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("test accuracy, %")
    panels[0].legend(fontsize="medium", frameon=False, loc="lower right")
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _draw_family(
    ax: Axes, name: str, rows: Sequence[Point], cost: Callable[[Point], float]
) -> None:
    colour, mark, line = LOOKS[name]
    best = front(rows, cost)
    others = [row for row in rows if row not in best]
    ax.step(
        [cost(row) for row in best],
        [100 * row.test_accuracy for row in best],
        where="post",
        color=colour,
        linestyle=line,
        linewidth=1.6,
    )
    ax.errorbar(
        [cost(row) for row in best],
        [100 * row.test_accuracy for row in best],
        yerr=[100 * (row.half_width or 0) for row in best],
        color=colour,
        marker=mark,
        linestyle="none",
        markersize=6,
        capsize=3,
        label=LABELS.get(name, name),
    )
    ax.plot(
        [cost(row) for row in others],
        [100 * row.test_accuracy for row in others],
        color=colour,
        marker=mark,
        linestyle="none",
        markersize=5,
        markerfacecolor="none",
        alpha=0.6,
    )
    for row in best:
        below = row.network.is_dense
        ax.annotate(
            f"{row.network.width}"
            if below
            else f"{row.network.width} {row.network.kind.split(',')[0]}",
            (cost(row), 100 * row.test_accuracy),
            textcoords="offset points",
            xytext=(5, -12) if below else (-4, 7),
            ha="left" if below else "right",
            fontsize="x-small",
            color=colour,
        )

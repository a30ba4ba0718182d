"""Pictures of a search: its progress, the front it found, what mattered, learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from dnc_search.findings import Findings, Winner
from dnc_search.importance import importance
from dnc_search.pareto import front
from dnc_search.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STATES = {"complete": ("o", 1.0), "stopped": ("v", 0.5), "failed": ("x", 1.0)}
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#17becf", "#7f7f7f")
BEST = "#d62728"


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty figure of this size in inches.

    Raises ImportError, with the way out, without matplotlib.
    """
    try:
        figure: Figure = import_module("matplotlib.figure").Figure(
            figsize=size, layout="constrained"
        )
    except ImportError as error:
        raise ImportError("figures need matplotlib; pip install 'dnc-sparse[search]'") from error
    return figure


def progress(findings: Findings) -> Figure:
    """Draw each candidate's score in the search's order, and the best so far, for each w_c."""
    rows = len(findings.search.w_c)
    figure = new_figure((9, 1 + 1.9 * rows))
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    trials = range(1, len(findings.records) + 1)
    for ax, w_c in zip(panels, findings.search.w_c, strict=True):
        scores = [findings.score(record, w_c) for record in findings.records]
        _points(ax, findings.records, list(trials), scores)
        ax.step(trials, list(accumulate(scores, min)), where="post", color=BEST, linewidth=1.5)
        ax.set_ylabel(f"f, $w_c$ = {w_c:g}")
        ax.grid(visible=True, alpha=0.25)
    panels[-1].set_xlabel("candidates, stage by stage")
    _legend(figure, panels[0])
    return figure


def pareto(findings: Findings, measure: str) -> Figure:
    """Draw validation error against a complexity, the front, and the winner of each w_c."""
    figure = new_figure((8, 5))
    ax = figure.subplots()
    shown = [record for record in findings.records if measure in record.measures]
    _points(ax, shown, [r.measures[measure] for r in shown], [100 * r.error for r in shown])
    best = front(findings.able, measure)
    ax.step(
        [record.measures[measure] for record in best],
        [100 * record.error for record in best],
        where="post",
        color=BEST,
        linewidth=1.2,
        label="front",
    )
    for same in findings.winners().values():
        record = same[0].record
        place = (record.measures[measure], 100 * record.error)
        ax.plot(*place, "*", color=BEST, markersize=13, markeredgecolor="black")
        ax.annotate(_won(same), place, (6, 6), textcoords="offset points", fontsize=9)
    if all(record.measures[measure] > 0 for record in shown):
        ax.set_xscale("log")
    ax.set_xlabel(measure.replace("_", " "))
    ax.set_ylabel("validation error, %")
    ax.grid(visible=True, which="both", alpha=0.2)
    ax.legend(loc="upper right", fontsize=9)
    return figure


def importances(findings: Findings) -> Figure:
    """Draw how strongly each parameter that was decided goes with the score, for each w_c."""
    table = {w_c: importance(findings, w_c) for w_c in findings.search.w_c}
    names = sorted({name for row in table.values() for name in row})
    figure = new_figure((8, 1 + 0.22 * max(1, len(names)) * max(2, len(table) / 2)))
    ax = figure.subplots()
    height = 0.8 / len(table)
    for index, (w_c, row) in enumerate(table.items()):
        places = [i + height * (index - (len(table) - 1) / 2) for i in range(len(names))]
        values = [row.get(name, 0.0) for name in names]
        colour = COLOURS[index % len(COLOURS)]
        ax.barh(places, values, height, color=colour, label=f"$w_c$ = {w_c:g}")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("strength of association with the score, 0 to 1")
    ax.legend(fontsize=9)
    ax.grid(visible=True, axis="x", alpha=0.25)
    return figure


def curves(findings: Findings) -> Figure:
    """Draw the validation error of each candidate after each epoch, the winners in colour."""
    figure = new_figure((8, 4.5))
    ax = figure.subplots()
    best = findings.winners()
    for record in findings.records:
        if record.key not in best:
            _curve(ax, record, color="#999999", alpha=0.35, linewidth=0.8)
    for index, same in enumerate(best.values()):
        colour = COLOURS[index % len(COLOURS)]
        _curve(ax, same[0].record, color=colour, linewidth=1.8, label=_won(same))
    ax.set_xlabel("epoch")
    ax.set_ylabel("validation error, %")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(import_module("matplotlib.ticker").MaxNLocator(integer=True))
    for axis_part in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        axis_part("{x:g}")
    ax.grid(visible=True, which="both", alpha=0.2)
    ax.legend(fontsize=9)
    return figure


def _won(same: Sequence[Winner]) -> str:
    return "$w_c$ = " + ", ".join(f"{winner.w_c:g}" for winner in same)


def _points(ax: Axes, records: Sequence[Record], x: Sequence[float], y: Sequence[float]) -> None:
    stages = list(dict.fromkeys(record.stage for record in records))
    for index, stage in enumerate(stages):
        for state, (marker, alpha) in STATES.items():
            own = [i for i, r in enumerate(records) if (r.stage, r.state) == (stage, state)]
            if own:
                label = stage if state == "complete" else f"{stage}, {state}"
                look: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "alpha": alpha}
                ax.scatter(
                    [x[i] for i in own], [y[i] for i in own], 22, marker=marker, label=label, **look
                )


def _curve(ax: Axes, record: Record, **look: Any) -> None:
    ax.plot(range(1, record.epochs + 1), [100 * error for error in record.curve], **look)


def _legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=9)

"""Pictures of a run, of a schedule and of a sweep; all need matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dnc_hw import schedule
from dnc_hw.diagram import unit_name, units
from dnc_hw.machine import Machine
from dnc_hw.simulation import Report
from dnc_hw.sweep import by_machine, mean
from dnc_hw.validation import WINDOW, correct_in_window
from dnc_sparse.extras import check_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "check_matplotlib",
    "save_accuracy",
    "save_accuracy_by_format",
    "save_curve",
    "save_pareto",
    "save_schedule",
]

FEW_TICKS = 8
Result = Mapping[str, Any]
OPERATION_COLOURS = {"load": "#bbbbbb", "FF": "#4c9be8", "BP": "#f2a541", "UP": "#6abf69"}
ACCURACY_LABELS = {
    "test_accuracy": "test split",
    "last_accuracy": f"last {WINDOW} training inputs",
}


def save_curve(report: Report, path: Path) -> None:
    """Draw the running accuracy of a training run over its inputs."""
    figure = _figure((7, 4))
    ax = figure.subplots()
    seen = np.arange(1, len(report.winners) + 1)
    share = correct_in_window(report.correct) / np.minimum(seen, WINDOW)
    # a picture has fewer columns than a run has inputs
    every = max(1, len(seen) // 2000)
    ax.plot(seen[::every], 100 * share[::every], color="tab:blue")
    ax.set_xlabel("training inputs")
    ax.set_ylabel(f"correct among the last {WINDOW}, %")
    ax.set_ylim(0, 100)
    milliseconds = report.time_s * 1000
    ax.set_title(_title(report.machine) + f"\n{report.clocks:,} clocks, {milliseconds:,.1f} ms")
    ax.grid(visible=True, alpha=0.25)
    figure.savefig(path, dpi=150)


def save_schedule(machine: Machine, cycles: int, path: Path) -> None:
    """Draw which input every unit works on in each junction cycle."""
    junctions = machine.junctions
    rows = units(junctions)
    figure = _figure((1.2 + 0.75 * cycles, 1.2 + 0.42 * len(rows)))
    ax = figure.subplots()
    for cycle in range(cycles):
        for task in schedule.tasks(junctions, cycle):
            row = rows.index((task.operation, task.junction))
            colour = OPERATION_COLOURS[task.operation]
            ax.barh(row, 0.94, left=cycle + 0.03, color=colour)
            ax.text(cycle + 0.5, row, str(task.input), ha="center", va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), [unit_name(unit) for unit in rows])
    ax.invert_yaxis()
    ax.set_xlim(0, cycles)
    ax.set_xticks(range(cycles + 1))
    ax.set_xlabel(f"junction cycle, {machine.cycle_clocks} clocks each")
    ax.set_title(f"input that each unit works on\n{_title(machine)}", fontsize="medium")
    figure.savefig(path, dpi=150)


def save_pareto(results: Sequence[Result], path: Path) -> None:
    """Draw time per input against DSP and against LUT, with the front.

    The colour is the accuracy, the mean over seeds; of machines at one place the best one shows.
    """
    figure = _figure((11, 4.6))
    panels = figure.subplots(1, 2, sharey=True)
    columns = (("dsp", "DSP"), ("lut_estimate", "LUT (estimate)"))
    machines = pareto_points(results)
    for ax, (name, label) in zip(panels, columns, strict=True):
        for fits, marker in ((True, "o"), (False, "x")):
            chosen = [(shade, each) for shade, each in machines if each["fits"] == fits]
            if not chosen:
                continue
            drawn = ax.scatter(
                [each[name] for _, each in chosen],
                [each["input_us"] for _, each in chosen],
                c=[shade for shade, _ in chosen],
                vmin=machines[0][0],
                vmax=machines[-1][0],
                marker=marker,
                label="fits" if fits else "does not fit",
            )
        front = pareto_front([(each[name], each["input_us"]) for each in results])
        ax.step(*zip(*front, strict=True), where="post", color="black", linewidth=0.8, zorder=0)
        _log_ticks(ax, "x", {each[name] for each in results})
        _log_ticks(ax, "y", {each["input_us"] for each in results})
        ax.set_xlabel(label)
        ax.grid(visible=True, which="both", alpha=0.2)
    panels[0].set_ylabel("time per training input, us")
    panels[0].legend(title=results[0]["device"])
    figure.colorbar(drawn, ax=panels, label="accuracy on the test split, % (mean over seeds)")
    figure.savefig(path, dpi=150)


def pareto_points(results: Sequence[Result]) -> list[tuple[float, Result]]:
    """Return each machine's accuracy in percent, the mean over its seeds, and one of its results.

    The most accurate come last, so that they are drawn over others at the same place.
    """
    found = [(100 * mean(group, "test_accuracy"), group[0]) for group in by_machine(results)]
    return sorted(found, key=lambda point: point[0])


def save_accuracy_by_format(results: Sequence[Result], path: Path) -> None:
    """Draw accuracy against number formats, narrow ones first: every result, and means."""
    formats = sorted({tuple(each["number"]) for each in results}, key=lambda n: (sum(n), n))
    placed = [{**each, "place": formats.index(tuple(each["number"]))} for each in results]
    ticks = [f"{1 + sum(number)} bits\n(1, {number[0]}, {number[1]})" for number in formats]
    save_accuracy(placed, "place", "format (sign, integer, fraction bits)", path, ticks)


def save_accuracy(
    results: Sequence[Result],
    axis: str,
    label: str,
    path: Path,
    ticks: Sequence[str] | None = None,
) -> None:
    """Draw accuracy against a column of the results: every result, and the mean of each value.

    `ticks` are texts for the values 0, 1, ...
    """
    figure = _figure((11, 4.2))
    panels = figure.subplots(1, 2, sharey=True)
    for ax, (column, title) in zip(panels, ACCURACY_LABELS.items(), strict=True):
        for name, members in _series(results).items():
            _with_means(ax, members, axis, column, name)
        ax.set_xlabel(label)
        ax.set_title(title)
        if ticks is not None:
            ax.set_xticks(range(len(ticks)), ticks)
        ax.grid(visible=True, alpha=0.25)
    panels[0].set_ylabel("accuracy, %")
    panels[0].legend(fontsize="small")
    figure.savefig(path, dpi=150)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other matches in both coordinates, by the first one rising."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return front


def _series(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Group results by the choices that could differ at one place of an axis."""
    groups: dict[str, list[Result]] = {}
    for each in results:
        name = f"kind {each['kind']}, P = {each['pipeline_clocks']}, {each['hazards']}"
        groups.setdefault(name, []).append(each)
    return groups


def _with_means(ax: Axes, members: Sequence[Result], axis: str, column: str, name: str) -> None:
    places = sorted({each[axis] for each in members})
    means = [
        100 * float(np.mean([each[column] for each in members if each[axis] == place]))
        for place in places
    ]
    (line,) = ax.plot(places, means, label=name)
    xs, ys = zip(*((each[axis], 100 * each[column]) for each in members), strict=True)
    ax.plot(xs, ys, ".", color=line.get_color(), alpha=0.6)


def _log_ticks(ax: Axes, axis: Literal["x", "y"], values: set[float]) -> None:
    """Make an axis logarithmic, labelled at the values themselves where they are few."""
    ax.set(**{f"{axis}scale": "log"})
    if len(values) <= FEW_TICKS:
        few = sorted(values)
        ax.set(**{f"{axis}ticks": few, f"{axis}ticklabels": [f"{value:,.4g}" for value in few]})
    else:
        ticker, scale = import_module("matplotlib.ticker"), getattr(ax, f"{axis}axis")
        scale.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        scale.set_major_formatter(ticker.StrMethodFormatter("{x:,.10g}"))
    ax.tick_params(axis=axis, which="minor", label1On=False)


def _title(machine: Machine) -> str:
    return (
        f"{'-'.join(map(str, machine.layers))}, lanes {', '.join(map(str, machine.lanes))}, "
        f"format {machine.number}, P = {machine.pipeline_clocks}, {machine.hazards}"
    )


def _figure(size: tuple[float, float]) -> Any:
    check_matplotlib()
    return import_module("matplotlib.figure").Figure(figsize=size, layout="constrained")

"""What a comparison showed: a summary row per version, a table, a figure, a JSON record."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from dnc_sparse.compare import Result
from dnc_sparse.experiment import Task, Version
from dnc_sparse.nn import SparseLinear
from dnc_sparse.stats import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes


DENSE, NARROW = "dense", "dense, narrow"


@dataclass(frozen=True)
class Summary:
    """One version over its seeds: mean accuracies with 95 % half-widths, medians of the rest.

    `family` is what was asked for, `label` the figure's name of it: the family that was drawn. The
    density of a narrow network is its edges / those of the dense one. Ratios are to the dense
    version; None where there is none, or nothing was measured.
    """

    version: str
    family: str
    label: str
    runs: int
    density: float
    edges: int
    parameters: int
    test_accuracy: float
    test_accuracy_half_width: float | None
    seconds_per_epoch: float | None
    peak_mib: float | None
    parameter_ratio: float | None = None
    time_ratio: float | None = None
    memory_ratio: float | None = None


def summarise(versions: Sequence[Version], results: Sequence[Result]) -> list[Summary]:
    """Return a row per version, from the results in the order `compare` gives them."""
    widest = max((version.sizes for version in versions), key=sum)
    edges = sum(left * right for left, right in pairwise(widest))
    rows = [_summary(v, results[i :: len(versions)], edges) for i, v in enumerate(versions)]
    dense = next((r for r in rows if r.family == DENSE), None)
    return [_against(row, dense) for row in rows]


def _summary(version: Version, results: Sequence[Result], dense_edges: int) -> Summary:
    family = (NARROW if version.is_narrow else DENSE) if version.is_dense else version.family
    mean, half_width = mean_interval([result.test_accuracy for result in results])
    return Summary(
        version=version.name,
        family=family,
        label=family if version.is_dense else _drawn(version),
        runs=len(results),
        density=results[0].edges / dense_edges if version.is_narrow else results[0].density,
        edges=results[0].edges,
        parameters=results[0].parameters,
        test_accuracy=mean,
        test_accuracy_half_width=half_width,
        seconds_per_epoch=_median([result.seconds_per_epoch for result in results]),
        peak_mib=_median([result.peak_mib for result in results]),
    )


def _drawn(version: Version) -> str:
    """Name the families that the junctions have, which `auto` chooses by their sizes."""
    if version.family != "auto":
        return version.family.replace("_", "-")
    layers = (layer for layer in version.build(0).junctions if isinstance(layer, SparseLinear))
    families = dict.fromkeys(layer.pattern.family.replace("_", "-") for layer in layers)
    return " and ".join(families) or "full"


def _against(row: Summary, dense: Summary | None) -> Summary:
    if dense is None:
        return row
    ratios = {
        "parameter_ratio": row.parameters / dense.parameters,
        "time_ratio": _ratio(row.seconds_per_epoch, dense.seconds_per_epoch),
        "memory_ratio": _ratio(row.peak_mib, dense.peak_mib),
    }
    return Summary(**{**asdict(row), **ratios})


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _ratio(value: float | None, dense: float | None) -> float | None:
    return None if value is None or not dense else value / dense


def accuracy_text(mean: float, half_width: float | None) -> str:
    """Write an accuracy in percent with its interval, if there is one."""
    interval = "" if half_width is None else f" ± {100 * half_width:.2f}"
    return f"{100 * mean:.2f}{interval}"


def table(rows: Sequence[Summary], title: str) -> Table:
    """Return the rows as a table for the terminal; figures in brackets are ratios to dense."""
    result = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    result.add_column("version")
    for heading in ("density", "edges", "test %", "s / epoch", "peak MiB"):
        result.add_column(heading, justify="right")
    for row in rows:
        result.add_row(
            row.version,
            f"{row.density:.4g}",
            f"{row.edges}",
            accuracy_text(row.test_accuracy, row.test_accuracy_half_width),
            _with_ratio(row.seconds_per_epoch, ".3f", row.time_ratio),
            _with_ratio(row.peak_mib, ".1f", row.memory_ratio),
        )
    return result


def _with_ratio(value: float | None, form: str, ratio: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:{form}}" + ("" if ratio is None else f" ({ratio:.2f})")


def origins(results: Sequence[Result]) -> int:
    """Return how many machines, commits or versions of anything the results were made with."""
    return len({json.dumps(result.machine, sort_keys=True) for result in results})


def experiment_of(task: Task, sizes: Sequence[int]) -> dict[str, Any]:
    """Return what decides which comparison it is: data, recipe and the dense network's sizes."""
    return {**task.identity(), "layers": list(sizes)}


def check_folder(folder: Path, task: Task, sizes: Sequence[int]) -> None:
    """Raise RuntimeError when the folder has the comparison of another experiment.

    Its runs would stay, but its table and figure would be replaced.
    """
    path = folder / "comparison.json"
    if not path.is_file():
        return
    before = json.loads(path.read_text()).get("experiment", {})
    now = json.loads(json.dumps(experiment_of(task, sizes)))
    changes = [
        f"{name} {before[name]!r}, now {value!r}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]
    if changes:
        raise RuntimeError(
            f"{path} is of another experiment ({'; '.join(changes)}); "
            f"name another folder with --out"
        )


def record(
    task: Task, sizes: Sequence[int], rows: Sequence[Summary], results: Sequence[Result]
) -> dict[str, Any]:
    """Return everything as one JSON-able record; each run says what it was made with.

    `experiment` is what comparisons in one folder share (`experiment_of`).
    """
    return {
        "experiment": experiment_of(task, sizes),
        "task": asdict(task),
        "versions": [asdict(row) for row in rows],
        "runs": [asdict(result) for result in results],
    }


def draw(rows: Sequence[Summary], title: str, path: Path) -> None:
    """Draw accuracy, and where measured time and memory, against density into an image file.

    Raises ImportError, with the way out, without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "drawing a comparison needs matplotlib: pip install 'dnc-sparse[plot]'"
        ) from error
    measured = any(row.time_ratio is not None for row in rows if row.family != DENSE)
    figure = Figure(figsize=(10 if measured else 5.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 if measured else 1, squeeze=False)[0]
    _draw_accuracy(axes[0], rows)
    if measured:
        _draw_costs(axes[1], rows)
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=150)


def _families(rows: Sequence[Summary]) -> dict[str, list[Summary]]:
    """Group all but the dense row by the label of their family, by falling density, after it."""
    dense = [row for row in rows if row.family == DENSE]
    sparse = sorted((r for r in rows if r.family != DENSE), key=lambda row: -row.density)
    names = dict.fromkeys(row.family for row in sparse)
    groups = {name: [row for row in sparse if row.family == name] for name in names}
    # two families that were asked for may have drawn the same, as auto and clash_free do
    labels = {name: " or ".join(dict.fromkeys(r.label for r in g)) for name, g in groups.items()}
    shared = Counter(labels.values())
    return {
        labels[name] if shared[labels[name]] == 1 else f"{labels[name]} ({name})": dense + group
        for name, group in groups.items()
    }


def _draw_accuracy(ax: Axes, rows: Sequence[Summary]) -> None:
    for name, group in (_families(rows) or {"dense": list(rows)}).items():
        ax.errorbar(
            [row.density for row in group],
            [100 * row.test_accuracy for row in group],
            yerr=[100 * (row.test_accuracy_half_width or 0) for row in group],
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=1,
            label=name,
        )
    for row in rows:
        if row.family == DENSE:
            ax.axhline(100 * row.test_accuracy, color="grey", linestyle=":", label="dense")
    ax.set_ylabel("test accuracy, % (mean, 95 % interval)")
    _finish(ax, rows)


def _draw_costs(ax: Axes, rows: Sequence[Summary]) -> None:
    for number, (name, group) in enumerate(_families(rows).items()):
        for values, mark, style, what in (
            ([row.time_ratio for row in group], "o", "-", "time"),
            ([row.memory_ratio for row in group], "s", "--", "memory"),
        ):
            ax.plot(
                [row.density for row in group],
                [float("nan") if value is None else value for value in values],
                marker=mark,
                markersize=4,
                linewidth=1,
                linestyle=style,
                color=f"C{number}",
                label=f"{name} {what}",
            )
    # many points: a line in density is curved over its logarithm
    ideal = np.geomspace(min(row.density for row in rows), 1)
    ax.plot(ideal, ideal, color="grey", linestyle=":", label="ideal: density")
    ax.set_ylabel("training time and peak memory, dense = 1")
    ax.set_ylim(bottom=0)
    _finish(ax, rows)


def _finish(ax: Axes, rows: Sequence[Summary]) -> None:
    ax.set_xscale("log")
    # a narrow network lies beside the sparse one of as many weights
    ticks = sorted({row.density for row in rows if row.family != NARROW})
    ax.set_xticks(ticks, [f"{100 * tick:.3g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("density, %")
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small", frameon=False)

"""Pictures of a sweep: speed-up against density, and a roofline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnc_sparse.bench.roofs import Roofs
from dnc_sparse.bench.suite import Outcome
from dnc_sparse.bench.sweep import Point
from dnc_sparse.extras import check_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# one look per candidate in every picture; ours in warm colours and thick
LOOKS: dict[str, dict[str, Any]] = {
    "SparseLinear 1x1": {"color": "#d62728", "marker": "o", "linewidth": 2.4},
    "SparseLinear 4x4": {"color": "#ff7f0e", "marker": "s", "linewidth": 2.4},
    "SparseLinear 16x16": {"color": "#e377c2", "marker": "D", "linewidth": 2.4},
    "nn.Linear": {"color": "black", "marker": "x"},
    "oneDNN dense": {"color": "#555555", "marker": "+"},
    "nn.Linear bfloat16": {"color": "#999999", "marker": "*"},
    "masked dense": {"color": "#8c564b", "marker": "1"},
    "SparseProp": {"color": "#1f77b4", "marker": "v"},
    "torch.sparse CSR": {"color": "#2ca02c", "marker": "^"},
    "torch.sparse BSR 4x4": {"color": "#17becf", "marker": "<"},
    "torch.sparse BSR 16x16": {"color": "#0b7a75", "marker": ">"},
    "scipy CSR": {"color": "#9467bd", "marker": "p"},
    "SRigL gather": {"color": "#bcbd22", "marker": "h"},
}
# its operations are not those under the float32 roof
OTHER_DTYPE = "nn.Linear bfloat16"
GIGA = 1e9
PLAIN: dict[str, Any] = {"linewidth": 1.3, "markersize": 6}


def save_speed_up(points: Sequence[Point], title: str, path: Path) -> None:
    """Draw each candidate's speed-up over `nn.Linear` against density, with the ideal line.

    Raises ImportError, with the way out, without matplotlib.
    """
    figure = _figure((11, 5))
    operations = list(dict.fromkeys(point.operation for point in points))
    panels = figure.subplots(1, len(operations), sharey=True, squeeze=False)[0]
    for ax, operation in zip(panels, operations, strict=True):
        own = [p for p in points if p.operation == operation and p.speed_up is not None]
        densities = sorted({point.density for point in own}, reverse=True)
        ideal = [1 / density for density in densities]
        ax.loglog(densities, ideal, "--", color="black", linewidth=1, label="ideal: 1 / density")
        _lines(ax, own, lambda point: (point.density, point.speed_up))
        ax.set_xticks(densities, [f"1/{1 / density:.0f}" for density in densities], minor=False)
        ax.set_xticks([], minor=True)
        ax.invert_xaxis()
        ax.set_xlabel("density")
        ax.set_title({"step": "training step: forward, dX, dW, db"}.get(operation, operation))
        ax.grid(visible=True, which="major", alpha=0.25)
        ax.yaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("speed-up over nn.Linear")
    figure.suptitle(title, fontsize="medium")
    # the first panel has every candidate; those that cannot train are missing in the other
    figure.legend(handles=panels[0].get_legend_handles_labels()[0], loc="outside right center")
    figure.savefig(path, dpi=150)


def save_block_speed_up(outcomes: Sequence[Outcome], title: str, path: Path) -> None:
    """Draw the speed-ups over dense of a device suite: a line per block side, goals dotted.

    Raises ImportError, with the way out, without matplotlib.
    """
    figure = _figure((11, 5))
    own = [o for o in outcomes if o.value and o.measure.run.candidate == "linear"]
    operations = list(dict.fromkeys(o.measure.run.operation for o in own))
    panels = figure.subplots(1, max(1, len(operations)), sharey=True, squeeze=False)[0]
    for ax, operation in zip(panels, operations, strict=False):
        for side in sorted({o.measure.run.setting.block for o in own}, reverse=True):
            line = sorted(
                (o.measure.run.setting.density, o.value, o.measure.goal.limit)
                for o in own
                if (o.measure.run.operation, o.measure.run.setting.block) == (operation, side)
                and o.measure.run.setting.family == "auto"
            )
            if not line:
                continue
            densities, values, goals = zip(*line, strict=True)
            (drawn,) = ax.loglog(densities, values, marker="o", label=f"blocks of {side}")
            ax.loglog(densities, goals, ":", color=drawn.get_color())
        ideal = sorted({o.measure.run.setting.density for o in own})
        ax.loglog(ideal, [1 / density for density in ideal], "--", color="black", linewidth=1)
        ax.invert_xaxis()
        ax.set_xlabel("density")
        ax.set_title(operation)
        ax.grid(visible=True, which="major", alpha=0.25)
    panels[0].set_ylabel("speed-up over nn.Linear (dotted: goal, dashed: 1 / density)")
    figure.suptitle(title, fontsize="medium")
    figure.legend(handles=panels[0].get_legend_handles_labels()[0], loc="outside right center")
    figure.savefig(path, dpi=150)


def save_roofline(points: Sequence[Point], roofs: Roofs, title: str, path: Path) -> None:
    """Draw useful operations a second of float32 forward passes under the machine's roofs.

    A column of points is one density; bytes are those of x, weights and y, each moved once. Raises
    ImportError, with the way out, without matplotlib.
    """
    figure = _figure((9, 5.5))
    ax = figure.subplots()
    own = [
        point
        for point in points
        if point.operation == "forward" and point.seconds and point.candidate != OTHER_DTYPE
    ]
    columns = {point.intensity: f"1/{1 / point.density:.0f}" for point in own}
    peak = roofs.flops_per_s
    # from below the corner of the highest slanted roof
    span = (min(*columns, peak / roofs.cache_bytes_per_s) / 2, max(columns) * 2)
    ax.loglog(
        span, [peak / GIGA] * 2, color="black", label=f"oneDNN product: {peak / GIGA:.0f} GF/s"
    )
    for name, style, rate in (
        ("in cache", "--", roofs.cache_bytes_per_s),
        ("in memory", ":", roofs.memory_bytes_per_s),
    ):
        # a slanted roof ends where it meets the flat one
        corner = (span[0], min(span[1], peak / rate))
        heights = [intensity * rate / GIGA for intensity in corner]
        label = f"copying {name}: {rate / GIGA:.0f} GB/s"
        ax.plot(corner, heights, style, color="black", linewidth=1.2, label=label)
    _lines(ax, own, lambda point: (point.intensity, point.flops / (point.seconds or 1) / GIGA))
    ax.set_xlim(span)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("useful operations per byte of x, weights and y")
    ax.set_ylabel("useful GFLOP/s")
    ax.grid(visible=True, which="major", alpha=0.25)
    top = ax.secondary_xaxis("top")
    top.set_xticks(list(columns), list(columns.values()))
    top.set_xticks([], minor=True)
    top.set_xlabel("density")
    figure.suptitle(f"forward, {title}", fontsize="medium")
    figure.legend(handles=ax.get_legend_handles_labels()[0], loc="outside right center")
    figure.savefig(path, dpi=150)


def _lines(
    ax: Axes, points: Sequence[Point], place: Callable[[Point], tuple[float, float | None]]
) -> None:
    """Draw one line per candidate, in the order of `LOOKS`."""
    for name, look in LOOKS.items():
        places = sorted(place(point) for point in points if point.candidate == name)
        if places:
            ax.plot(*zip(*places, strict=True), label=name, **PLAIN | look)


def _figure(size: tuple[float, float]) -> Any:
    check_matplotlib()
    return import_module("matplotlib.figure").Figure(figsize=size, layout="constrained")

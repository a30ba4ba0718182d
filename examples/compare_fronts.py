"""Which kind of network errs less at which size: the fronts of finished searches, side by side.

Each kind is named with the folders of its searches, one search per seed, the same seeds for every
kind. For each size the lowest validation error of the candidates up to it is compared; the tested
networks of the final stage are drawn as stars. The table on the screen has the mean of every kind,
and the difference of the last one to the first, paired over seeds, with its 95 % interval.

python examples/compare_fronts.py --kind dense=runs/d0,runs/d1 --kind sparse=runs/s0,runs/s1 \
    [--title TEXT] [--out fronts.png]
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from dnc_search.cli.found import found
from dnc_search.findings import Findings
from dnc_search.ledger import Ledger, sqlite_url
from dnc_search.pareto import front
from dnc_sparse.stats import mean_interval

# one row per seed, one column per size; nan where a search has nothing as small
Errors = NDArray[np.float64]


def read(folder: Path) -> Findings:
    """Return what the search in a folder has found."""
    with Ledger(sqlite_url(folder), folder.resolve().name, read_only=True) as ledger:
        return found(ledger)


def kind(text: str) -> tuple[str, list[Findings]]:
    """Read NAME=FOLDER,FOLDER."""
    name, equals, folders = text.partition("=")
    if not equals or not folders:
        raise argparse.ArgumentTypeError(f"--kind takes NAME=FOLDER,FOLDER, got {text!r}")
    return name, [read(Path(folder)) for folder in folders.split(",")]


def errors_at(searches: Sequence[Findings], sizes: NDArray[np.float64]) -> Errors:
    """Return the lowest validation error, in %, of the candidates up to each size."""
    rows = []
    for findings in searches:
        best = front(findings.able, "parameters")
        known = np.array([record.measures["parameters"] for record in best])
        errors = np.array([np.nan, *(100 * record.error for record in best)])
        rows.append(errors[np.searchsorted(known, sizes, side="right")])
    return np.array(rows)


def sizes_of(kinds: Mapping[str, Sequence[Findings]]) -> tuple[float, float]:
    """Return the number of parameters of the smallest and of the largest candidate."""
    counts = [r.measures["parameters"] for all_ in kinds.values() for f in all_ for r in f.able]
    return min(counts), max(counts)


def table(kinds: Mapping[str, Sequence[Findings]]) -> str:
    """Return the mean error of each kind at round sizes, and the paired difference, as Markdown."""
    low, high = sizes_of(kinds)
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
    round_sizes = np.array([k * d for d in decades for k in (1, 2, 5) if low <= k * d < high])
    sizes = np.append(round_sizes, high)
    errors = {name: errors_at(searches, sizes) for name, searches in kinds.items()}
    first, *_, last = errors
    lines = [
        f"| parameters up to | {' | '.join(f'{name} %' for name in errors)} | {last} - {first} |",
        "|---" * (len(errors) + 2) + "|",
    ]
    for column, size in enumerate(sizes):
        cells = [_cell(rows[:, column]) for rows in errors.values()]
        paired = _cell(errors[last][:, column] - errors[first][:, column], sign="+")
        lines.append(f"| {size:,.0f} | {' | '.join([*cells, paired])} |")
    return "\n".join(lines)


def _cell(values: NDArray[np.float64], sign: str = "") -> str:
    if np.isnan(values).any():
        return ""
    mean, half_width = mean_interval(values.tolist())
    return f"{mean:{sign}.2f}" + ("" if half_width is None else f" ± {half_width:.2f}")


def draw(kinds: Mapping[str, Sequence[Findings]], title: str, path: Path) -> None:
    """Draw the mean front of each kind, its range over seeds, and the tested networks."""
    figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    sizes = np.geomspace(*sizes_of(kinds), 400)
    for name, searches in kinds.items():
        errors = errors_at(searches, sizes)
        (line,) = ax.plot(sizes, errors.mean(axis=0), label=f"{name}, validation")
        colour = line.get_color()
        ax.fill_between(sizes, errors.min(axis=0), errors.max(axis=0), alpha=0.15, color=colour)
        tested = [w for f in searches for same in f.winners().values() for w in same[:1]]
        ax.plot(
            [w.record.measures["parameters"] for w in tested],
            [np.nan if w.test_error is None else 100 * w.test_error for w in tested],
            "*",
            color=colour,
            markersize=11,
            markeredgecolor="black",
            markeredgewidth=0.5,
            label=f"{name}, test after the final training",
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis_part in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        axis_part("{x:g}")
    ax.set_xlabel("parameters")
    ax.set_ylabel("error, %")
    ax.set_title(title)
    ax.grid(visible=True, which="both", alpha=0.2)
    ax.legend(fontsize=9)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Compare the kinds of the command line."""
    parser = argparse.ArgumentParser(description="Compare the fronts of finished searches.")
    parser.add_argument("--kind", type=kind, action="append", required=True)
    parser.add_argument("--title", default="")
    parser.add_argument("--out", type=Path, default=Path("fronts.png"))
    chosen = parser.parse_args()
    kinds = dict(chosen.kind)
    print(table(kinds))
    draw(kinds, chosen.title, chosen.out)
    print(f"written: {chosen.out}")


if __name__ == "__main__":
    main()

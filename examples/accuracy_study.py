"""Which pattern and block to take: accuracy of eight variants over densities, data sets and seeds.

A first input layer of 1024 (784 pixels, then zeros) and hidden layers of 512 let every variant have
exactly the same number of edges; the output junction is dense. Runs go one after the other in this
process, seeds outermost; OUT/results.jsonl keeps them, and the same command goes on from there. At
the end the tables are printed and drawn into OUT/study.png.

Run it from the repository's root; it needs matplotlib, and the data as `dnc-sparse train` does:
python examples/accuracy_study.py [--quick] [--seeds N] [--out DIR]
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dnc_sparse.checkpoint import make_folder
from dnc_sparse.compare import Result, run, run_key
from dnc_sparse.data import DataSet
from dnc_sparse.experiment import Task, Version
from dnc_sparse.ledger import Ledger
from dnc_sparse.stats import mean_interval
from dnc_sparse.training import FitConfig

# the first is what the others are compared with; blocks are clash-free over blocks
VARIANTS: dict[str, dict[str, Any]] = {
    "1x1 blocked": {},
    "1x1 interleaved": {"options": {"bank_map": "interleaved"}},
    "1x1 regular": {"family": "regular"},
    "1x1 random": {"family": "random"},
    "2x2": {"block": (2, 2)},
    "4x4": {"block": (4, 4)},
    "8x8": {"block": (8, 8)},
    "16x16": {"block": (16, 16)},
}
DEFAULT, *OTHERS = VARIANTS

# test accuracies in percent, one per seed, of each (variant, share) and of ("dense", 1)
Cells = Mapping[tuple[str, int], NDArray[np.float64]]


@dataclass(frozen=True)
class DecayingTask(Task):
    """A task whose learning rate falls, so that accuracy settles in few epochs.

    Its data stay in memory from one run to the next.
    """

    lr_decay: float = 3e-3

    def load(self, version: Version) -> DataSet:
        """Return the padded data, read once."""
        if (self.data, version.sizes[0]) not in _loaded:
            _loaded[self.data, version.sizes[0]] = super().load(version)
        return _loaded[self.data, version.sizes[0]]

    def config(self, version: Version, seed: int) -> FitConfig:
        """Return the recipe's settings with this task's changes."""
        return replace(super().config(version, seed), lr_decay=self.lr_decay)


_loaded: dict[tuple[str, int], DataSet] = {}


@dataclass(frozen=True)
class Study:
    """What is trained: every variant keeps one edge in `share` of each junction but the last."""

    tasks: tuple[DecayingTask, ...]
    sizes: tuple[int, ...]
    shares: tuple[int, ...]

    def versions(self) -> dict[tuple[str, int], Version]:
        """Return the networks by variant and share, the dense one last."""
        *hidden, classes = self.sizes[1:]
        result = {}
        for share in self.shares:
            fan_out = (*(width // share for width in hidden), classes)
            for name, choice in VARIANTS.items():
                chosen = {"family": "clash_free", **choice}
                result[name, share] = Version(self.sizes, fan_out=fan_out, **chosen)
        return result | {("dense", 1): Version(self.sizes)}


# "morse" is Adam with weights drawn for the edges there are, as layers do by default
FULL = Study(
    tasks=tuple(
        DecayingTask(data, "morse", epochs=10, batch_size=256, learning_rate=4e-3)
        for data in ("mnist", "fashion-mnist")
    ),
    sizes=(1024, 512, 512, 10),
    shares=(4, 8, 16, 32),
)
# shows that everything works, on generated data; the figures mean nothing
QUICK = Study(
    tasks=(DecayingTask("morse-1.0", "morse", options={"samples_per_class": 20}, epochs=1),),
    sizes=(64, 64, 64),
    shares=(4,),
)


def train(study: Study, seeds: int, ledger: Ledger[Result]) -> list[Cells]:
    """Train what the ledger lacks and return the accuracies of each task."""
    jobs = [
        (task, cell, version, seed)
        for seed in range(seeds)
        for task in study.tasks
        for cell, version in study.versions().items()
    ]
    found: list[dict[tuple[str, int], list[float]]] = [{} for _ in study.tasks]
    for number, (task, cell, version, seed) in enumerate(jobs, start=1):
        key = run_key(task.identity(), version, seed, None)
        if key not in ledger.results:
            ledger.add(run(task, version, seed, 1, measure=False))
            percent = 100 * ledger.results[key].test_accuracy
            name, share = cell
            print(f"[{number}/{len(jobs)}] {task.data} {name} 1/{share} seed {seed}: {percent:.2f}")
        accuracies = found[study.tasks.index(task)].setdefault(cell, [])
        accuracies.append(100 * ledger.results[key].test_accuracy)
    return [{cell: np.array(values) for cell, values in cells.items()} for cells in found]


def accuracy_table(cells: Cells, shares: Sequence[int]) -> str:
    """Return means with intervals; bold is the best, and what its paired interval does not beat."""
    rows = [_row("variant", [f"1/{share}" for share in shares]), "|---" * (len(shares) + 1) + "|"]
    best = {share: max(VARIANTS, key=lambda name: cells[name, share].mean()) for share in shares}
    for name in VARIANTS:
        texts = []
        for share in shares:
            text = "{:.2f} ± {:.2f}".format(*_interval(cells[name, share]))
            behind, half_width = _interval(cells[best[share], share] - cells[name, share])
            texts.append(f"**{text}**" if behind <= half_width else text)
        rows.append(_row(name, texts))
    dense = "dense: {:.2f} ± {:.2f}".format(*_interval(cells["dense", 1]))
    return "\n".join([*rows, "", dense])


def difference_table(cells: Cells, shares: Sequence[int]) -> str:
    """Return paired differences to the default; bold are those whose interval excludes zero."""
    heads = [*(f"1/{share}" for share in shares), "mean of all"]
    rows = [_row(f"less {DEFAULT}", heads), "|---" * (len(heads) + 1) + "|"]
    for name in OTHERS:
        paired = [cells[name, share] - cells[DEFAULT, share] for share in shares]
        texts = []
        for difference in [*paired, np.mean(paired, axis=0)]:
            mean, half_width = _interval(difference)
            text = f"{mean:+.2f} ± {half_width:.2f}"
            texts.append(f"**{text}**" if abs(mean) > half_width else text)
        rows.append(_row(name, texts))
    return "\n".join(rows)


def mean_of(results: Sequence[Cells]) -> Cells:
    """Return accuracies averaged over the tasks, seed by seed."""
    return {cell: np.mean([cells[cell] for cells in results], axis=0) for cell in results[0]}


def _row(head: str, texts: Sequence[str]) -> str:
    return f"| {head} | {' | '.join(texts)} |"


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    mean, half_width = mean_interval(values.tolist())
    # only a single value has no interval, and `main` asks for two seeds
    assert half_width is not None
    return mean, half_width


def draw(study: Study, results: Sequence[Cells], path: Path) -> None:
    """Draw accuracies, and below them the paired differences to the default, into a PNG file."""
    figure, axes = plt.subplots(
        2, len(results), figsize=(5.2 * len(results), 7.2), squeeze=False, layout="constrained"
    )
    for task, cells, (above, below) in zip(study.tasks, results, axes.T, strict=True):
        above.axhline(cells["dense", 1].mean(), color="grey", linestyle=":", label="dense")
        below.axhline(0, color="grey", linestyle=":")
        for place, name in enumerate(VARIANTS):
            own = [cells[name, share] for share in study.shares]
            _points(above, own, place, label=name, linewidth=0.7)
            if name != DEFAULT:
                default = [cells[DEFAULT, share] for share in study.shares]
                paired = [mine - other for mine, other in zip(own, default, strict=True)]
                # side by side, so that intervals do not hide each other
                shift = 0.09 * (place - len(VARIANTS) / 2)
                _points(below, paired, place, shift, linestyle="")
        for ax in (above, below):
            ax.set_xticks(range(len(study.shares)), [f"1/{share}" for share in study.shares])
            ax.grid(alpha=0.3, axis="y")
        above.set(title=task.data, ylabel="test accuracy, % (mean, 95 % interval)")
        below.set(ylabel=f"points above {DEFAULT} (paired, 95 %)", xlabel="density")
    axes[0, 0].legend(fontsize="small", frameon=False)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _points(
    ax: Axes, values: Sequence[NDArray[np.float64]], place: int, shift: float = 0.0, **style: Any
) -> None:
    means, half_widths = zip(*map(_interval, values), strict=True)
    marker = "so"[list(VARIANTS)[place].startswith("1x1")]
    x = np.arange(len(values)) + shift
    ax.errorbar(
        x, means, half_widths, color=f"C{place}", marker=marker, markersize=4, capsize=2, **style
    )


def main() -> None:
    """Train, print and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a minute's try on generated data")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each network, at least 2")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy-study"))
    chosen = parser.parse_args()
    if chosen.seeds < 2:
        parser.error(f"an interval needs at least 2 seeds, got {chosen.seeds}")
    study = QUICK if chosen.quick else FULL
    make_folder(chosen.out)
    results = train(study, chosen.seeds, Ledger(chosen.out / "results.jsonl", Result))
    for task, cells in zip(study.tasks, results, strict=True):
        print(f"\n{task.data}\n\n{accuracy_table(cells, study.shares)}\n")
        print(difference_table(cells, study.shares))
    if len(results) > 1:
        print(f"\nmean of the data sets\n\n{difference_table(mean_of(results), study.shares)}")
    draw(study, results, chosen.out / "study.png")


if __name__ == "__main__":
    main()

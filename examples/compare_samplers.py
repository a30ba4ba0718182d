"""Which sampler to search with: ours against random search, TPE and Optuna's Gaussian process.

Each searches the architectures of sparse perceptrons on three tasks, for the same number of
candidates and epochs; all but random search begin with the same design. With `--kernels` the
contest is between ways in which our Gaussian process may compare dense perceptrons: layer by layer,
or the sum of all nodes, as Deep-n-Cheap did. Every search keeps its ledger under OUT; the same
command goes on from there. At the end the best f so far is drawn into OUT/samplers.png
(kernels.png), candidate by candidate, and what was found is printed and written to
OUT/samplers.json.

Run it from the repository's root; it needs the search extra, joblib, and the data as `dnc-sparse
train` does:
python examples/compare_samplers.py [--kernels] [--quick] [--seeds N] [--jobs N] [--out DIR]
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.stats import rankdata

from dnc_search.assembly import assemble
from dnc_search.cli.found import found
from dnc_search.definition import SamplerName, Search, digest_of
from dnc_search.evaluation import Settings, shape_of
from dnc_search.ledger import Ledger, sqlite_url
from dnc_search.spaces import Mlp, SparseMlp, space_record
from dnc_search.spaces.mlp import MlpSpace
from dnc_search.worker import Worker
from dnc_sparse import checkpoint
from dnc_sparse.data import load
from dnc_sparse.stats import mean_interval

# best f so far, one row per seed: [seeds, candidates]
Curves = NDArray[np.float64]


@dataclass(frozen=True)
class Contestant:
    """A sampler, and the space that says what it compares."""

    name: str
    sampler: SamplerName
    space: MlpSpace


def samplers() -> list[Contestant]:
    """Return every sampler, on sparse perceptrons trained as for docs/search-results.md."""
    space = SparseMlp(
        order=("architecture",),
        hidden_layers=(0, 2),
        nodes=(16, 256),
        # single edges, as in the published searches
        blocks=(1,),
        preset_learning_rate=2e-3,
    )
    return [Contestant(name, name, space) for name in get_args(SamplerName)]


def kernels() -> list[Contestant]:
    """Return our sampler with either kernel, and random search, on dense perceptrons."""
    space = Mlp(order=("architecture",), dropout=0.0)
    return [
        Contestant("layers", "ramp", space),
        Contestant("paper", "ramp", replace(space, kernel="paper")),
        Contestant("random", "random", space),
    ]


@dataclass(frozen=True)
class Study:
    """Data (with the options of `load`) and budget of one comparison."""

    name: str
    data: str
    w_c: float
    epochs: int
    batch_size: int = 128
    options: Mapping[str, Any] = field(default_factory=dict)
    initial: int = 8
    steps: int = 16

    def search(self, who: Contestant, seed: int) -> Search:
        """Return the search of one contestant and seed."""
        space = replace(who.space, preset_batch_size=self.batch_size)
        settings = Settings(epochs=self.epochs, measures=("parameters",))
        return Search(
            name=f"{self.name}-{who.name}-{seed}",
            data=self.data,
            data_options=self.options,
            data_digest=digest_of(self.data),
            shape=asdict(shape_of(load(self.data, **self.options))),
            space=space_record(space),
            settings=asdict(settings),
            w_c=(self.w_c,),
            seed=seed,
            initial=self.initial,
            steps=self.steps,
            sampler=who.sampler,
            final_seeds=0,
        )


def part_of_fashion(folder: Path, samples: int) -> str:
    """Write the first samples of Fashion-MNIST as a data set of their own, and return its path."""
    path = folder / f"fashion-{samples}.npz"
    if not path.exists():
        data = load("fashion-mnist")
        arrays = {
            f"{axis}_{part}": getattr(split, axis)[:samples].numpy()
            for part, split in (("train", data.train), ("test", data.test))
            for axis in "xy"
        }
        np.savez_compressed(path, **arrays)
    return str(path.resolve())


def best_so_far(study: Study, who: Contestant, seed: int, folder: Path) -> list[float]:
    """Search, or go on with it, and return the lowest f after each candidate."""
    torch.set_num_threads(1)
    search = study.search(who, seed)
    out = folder / search.name
    checkpoint.make_folder(out)
    with Ledger(sqlite_url(out), search.name) as ledger:
        ledger.define(search)
        Worker(ledger, *assemble(search, folder=out)).run()
        findings = found(ledger)
    scores = [findings.score(record, study.w_c) for record in findings.records]
    return list(itertools.accumulate(scores, min))


def run(
    studies: Sequence[Study], contest: Sequence[Contestant], seeds: int, jobs: int, folder: Path
) -> list[dict[str, Curves]]:
    """Return the curves of each study, by the names of the contestants."""
    cases = list(itertools.product(range(seeds), studies, contest))
    done = Parallel(n_jobs=jobs, verbose=5)(
        delayed(best_so_far)(study, who, seed, folder) for seed, study, who in cases
    )
    curves: list[dict[str, Curves]] = [{} for _ in studies]
    for index, study in enumerate(studies):
        for who in contest:
            own = [
                curve
                for (_, task, each), curve in zip(cases, done, strict=True)
                if task == study and each == who
            ]
            curves[index][who.name] = np.array(own)
    return curves


def table(studies: Sequence[Study], curves: Sequence[dict[str, Curves]]) -> str:
    """Return the final f of each contestant, and its mean rank, as Markdown."""
    names = list(curves[0])
    lines = [f"| task | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for study, own in zip(studies, curves, strict=True):
        cells = [_cell(rows[:, -1]) for rows in own.values()]
        lines.append(f"| {study.name}, w_c {study.w_c:g} | {' | '.join(cells)} |")
    last = np.concatenate([[rows[:, -1] for rows in own.values()] for own in curves], axis=1)
    ranks = rankdata(last, axis=0).mean(axis=1)
    lines.append(f"| mean rank | {' | '.join(f'{rank:.2f}' for rank in ranks)} |")
    return "\n".join(lines)


def _cell(values: NDArray[np.float64]) -> str:
    mean, half_width = mean_interval(values.tolist())
    return f"{mean:.4f}" if half_width is None else f"{mean:.4f} ± {half_width:.4f}"


def draw(studies: Sequence[Study], curves: Sequence[dict[str, Curves]], path: Path) -> None:
    """Draw the mean best f so far, with its 95 % interval."""
    figure, panels = plt.subplots(
        1, len(studies), figsize=(5 * len(studies), 4), layout="constrained", squeeze=False
    )
    for ax, study, own in zip(panels[0], studies, curves, strict=True):
        trials = np.arange(study.initial, study.initial + study.steps + 1)
        for name, rows in own.items():
            shown = rows[:, study.initial - 1 :].T
            intervals = [mean_interval(each.tolist()) for each in shown]
            means = np.array([mean for mean, _ in intervals])
            halves = np.array([half or 0.0 for _, half in intervals])
            (line,) = ax.plot(trials, means, label=name)
            ax.fill_between(
                trials, means - halves, means + halves, color=line.get_color(), alpha=0.15
            )
        ax.set_title(f"{study.name}, $w_c$ = {study.w_c:g}")
        ax.set_xlabel("candidates")
        ax.grid(visible=True, alpha=0.25)
    panels[0][0].set_ylabel("best f so far, mean and 95 % interval")
    panels[0][0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the comparison of the command line."""
    parser = argparse.ArgumentParser(description="Compare samplers, or kernels, on three tasks.")
    parser.add_argument("--kernels", action="store_true", help="ways to compare dense networks")
    parser.add_argument("--quick", action="store_true", help="Morse symbols only, few epochs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/samplers"))
    chosen = parser.parse_args()
    checkpoint.make_folder(chosen.out)
    if chosen.quick:
        studies = [
            Study("morse", "morse-1.0", 0.1, 1, 64, {"samples_per_class": 40}, initial=3, steps=2)
        ]
    else:
        fashion = part_of_fashion(chosen.out, 6_000)
        studies = [
            Study("morse", "morse-3.1", 0.1, 10, 64, {"samples_per_class": 120}),
            Study("reuters-r8", "reuters-r8", 0.1, 8, 64),
            Study("fashion-6k", fashion, 0.03, 8, 64),
        ]
    name, contest = ("kernels", kernels()) if chosen.kernels else ("samplers", samplers())
    curves = run(studies, contest, chosen.seeds, chosen.jobs, chosen.out / name)
    text = table(studies, curves)
    print(text)
    draw(studies, curves, chosen.out / f"{name}.png")
    record: dict[str, Any] = {
        study.name: {"study": asdict(study), **{n: rows.tolist() for n, rows in own.items()}}
        for study, own in zip(studies, curves, strict=True)
    }
    checkpoint.write_json(chosen.out / f"{name}.json", record)
    print(f"written: {name}.png and {name}.json in {chosen.out}")


if __name__ == "__main__":
    main()

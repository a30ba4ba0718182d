"""`dnc-sparse compare` and `dnc-sparse demo`: dense against sparse versions of one network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from dnc_sparse import checkpoint, compare_report
from dnc_sparse.cli import options
from dnc_sparse.compare import Ledger, Result
from dnc_sparse.compare import compare as run_all
from dnc_sparse.experiment import Task, Version

# few epochs at a high rate: enough to see the differences, in two minutes on two slow cores
DEMO_TASK = Task(
    data="morse-1.0",
    recipe="morse",
    options={"samples_per_class": 1000},
    epochs=4,
    learning_rate=4e-3,
)
DEMO_LAYERS = (64, 1024, 1024, 64)
# only the middle junction is thinned: it has nine edges in ten, and 64 inputs have none to spare
DEMO_FAN_OUTS = "1024,256,64;1024,128,64;1024,64,64"
DEMO_SEEDS = 3

Out = Annotated[
    Path,
    typer.Option("--out", help="Folder for results.jsonl, comparison.json and comparison.png."),
]


def compare(
    data: options.DataName,
    layers: options.Layers,
    density: Annotated[
        str | None, typer.Option(help="Densities of the whole network, such as 0.5,0.25,0.125.")
    ] = None,
    fan_out: Annotated[
        str | None,
        typer.Option(help="Fan-outs per junction, versions parted by semicolons: '50,10;20,10'."),
    ] = None,
    family: Annotated[
        str,
        typer.Option(help="Pattern families, each at every density: clash_free,regular,random."),
    ] = "auto",
    dense: Annotated[bool, typer.Option(help="Whether the dense network is a version too.")] = True,
    banks: options.Banks = None,
    block: options.BlockText = "auto",
    recipe: options.RecipeName = None,
    l2: Annotated[
        str, typer.Option(help="One value, or one per density (the dense network's first).")
    ] = "0",
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    join_validation: options.JoinValidation = False,
    seeds: options.Seeds = 3,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            help="Runs at a time, one thread each; above 1, time and memory are not measured.",
        ),
    ] = 1,
    out: Out = Path("runs/compare"),
    data_dir: options.DataDir = None,
    data_option: options.DataOptions = None,
    threads: options.Threads = None,
) -> None:
    """Compare the dense network with sparse versions: accuracy, edges, time and memory.

    Every run has a process of its own, one after the other, so that time and memory are fair: the
    peak memory is what the network and its training add to a process that has loaded the data and
    taken a first step. Finished runs are kept in OUT/results.jsonl and are not done again: the same
    command goes on after an interruption, and further seeds or densities add to it.

    **Examples**

    dnc-sparse compare --data mnist --layers 800,100,10 --density 0.5,0.2,0.1 --l2 1e-5

    dnc-sparse compare --data mnist --layers 800,100,10 --fan-out "50,10;20,10"
    --l2 1.1e-4,8e-5,2e-5 --family clash_free,random --seeds 5 --jobs 2
    """
    task = options.task(
        data, data_dir, data_option, recipe, epochs, batch_size, learning_rate, join_validation
    )
    shared = Version(
        sizes=options.numbers(layers, "--layers", int),
        block=options.block(block),
        options=options.given(banks=banks),
    )
    chosen = versions(shared, density, fan_out, family.split(","), l2, dense=dense)
    _compare_and_report(task, chosen, seeds, out, options.set_threads(threads), jobs)


def demo(out: Out = Path("runs/demo")) -> None:
    """Compare on Morse symbols, generated on the spot: two minutes, nothing is downloaded."""
    chosen = versions(Version(DEMO_LAYERS), None, DEMO_FAN_OUTS, ["auto"], "0", dense=True)
    # one thread: other work on the machine then disturbs least
    _compare_and_report(DEMO_TASK, chosen, DEMO_SEEDS, out, options.set_threads(1), 1)


def versions(
    shared: Version,
    density: str | None,
    fan_out: str | None,
    families: Sequence[str],
    l2: str,
    *,
    dense: bool,
) -> list[Version]:
    """Return the versions that the options describe, the dense one first.

    Raises ValueError when there is none, or another count of L2 values than of networks.
    """
    degrees: list[dict[str, Any]] = []
    if density is not None:
        degrees += [{"density": value} for value in options.numbers(density, "--density", float)]
    if fan_out is not None:
        texts = fan_out.split(";")
        degrees += [{"fan_out": options.numbers(text, "--fan-out", int)} for text in texts]
    points = len(degrees) + dense
    if not points:
        raise ValueError("nothing to compare; give --density, --fan-out, or leave out --no-dense")
    values = options.numbers(l2, "--l2", float)
    if len(values) == 1:
        values *= points
    if len(values) != points:
        first = ", the dense one first" if dense else ""
        raise ValueError(
            f"--l2 has {len(values)} values for {points} networks; give one, or {points}{first}"
        )
    first_version = [Version(shared.sizes, l2=values[0])] if dense else []
    sparse = product(families, zip(degrees, values[dense:], strict=True))
    return first_version + [
        replace(shared, family=name, l2=value, **degree) for name, (degree, value) in sparse
    ]


def _compare_and_report(
    task: Task, chosen: Sequence[Version], n_seeds: int, out: Path, threads: int, jobs: int
) -> None:
    """Run what the ledger in `out` lacks, then write and show what came out."""
    console = options.console()
    started = time.monotonic()
    checkpoint.make_folder(out)

    def report(result: Result, done: int, total: int) -> None:
        seconds = time.monotonic() - started
        console.print(
            f"[{done}/{total}] {result.version}, seed {result.seed}: "
            f"test accuracy {100 * result.test_accuracy:.2f} %  ({seconds:.0f} s)",
            highlight=False,
            markup=False,
        )

    ledger = Ledger(out / "results.jsonl")
    if ledger.results:
        console.print(f"{ledger.path} holds {len(ledger.results)} finished runs", highlight=False)
    results = run_all(
        task, chosen, range(n_seeds), ledger, threads=threads, jobs=jobs, report=report
    )
    rows = compare_report.summarise(chosen, results)
    sizes = "-".join(map(str, chosen[0].sizes))
    title = f"{task.data}, {sizes}, epochs {results[0].epochs}, seeds {n_seeds}"
    console.print(compare_report.table(rows, title))
    console.print("± 95 % interval of the mean; in brackets the ratio to dense", style="dim")
    made_with = compare_report.origins(results)
    if made_with > 1:
        console.print(
            f"the runs come from {made_with} machines or commits; comparison.json says which each",
            style="dim",
        )
    record = compare_report.record(task, rows, results)
    checkpoint.write_json(out / "comparison.json", record)
    written = [out / "comparison.json", ledger.path]
    if find_spec("matplotlib") is None:
        console.print("no figure: it needs matplotlib, pip install 'dnc-sparse[plot]'")
    else:
        compare_report.draw(rows, title, out / "comparison.png")
        written.append(out / "comparison.png")
    console.print(f"written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True)

"""`dnc-sparse compare`: dense against sparse versions of one network."""

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
from dnc_sparse.cli import options, outputs
from dnc_sparse.compare import Result
from dnc_sparse.compare import compare as run_all
from dnc_sparse.experiment import Task, Version
from dnc_sparse.experiment import narrow as narrow_version
from dnc_sparse.ledger import Ledger
from dnc_sparse.progress import RunBars

Out = Annotated[
    Path,
    typer.Option(
        "--out",
        callback=outputs.to_folder,
        help="Folder for results.jsonl, comparison.json and comparison.png.",
    ),
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
    narrow: Annotated[
        bool,
        typer.Option(
            "--narrow",
            help="For each sparse version, add a dense one of as many weights: its hidden layers "
            "are narrower.",
        ),
    ] = False,
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
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Compare the dense network with sparse versions: accuracy, edges, time and memory.

    Every run has a process of its own, one after the other, so that time and memory are fair: the
    peak memory is what the network and its training add to a process that has loaded the data and
    taken a first step. Finished runs are kept in OUT/results.jsonl and are not done again: the same
    command goes on after an interruption, and further seeds or densities add to it. Other data,
    layers or recipes need another OUT.

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
    if narrow:
        chosen = with_narrow(chosen)
    used = options.set_threads(threads, jobs)
    _compare_and_report(task, chosen, seeds, out, used, jobs, quiet=quiet)


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
        degrees += [{"fan_out": options.numbers(text, "--fan-out", int, "50,10")} for text in texts]
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


def with_narrow(chosen: Sequence[Version]) -> list[Version]:
    """Return the versions, each sparse one followed by the dense one of as many weights.

    Two that come out alike are one. Raises as `experiment.narrow`.
    """
    pairs = (
        [version] if version.is_dense else [version, narrow_version(version)] for version in chosen
    )
    return list({(v.name, v.l2): v for pair in pairs for v in pair}.values())


def _compare_and_report(
    task: Task,
    chosen: Sequence[Version],
    n_seeds: int,
    out: Path,
    threads: int,
    jobs: int,
    *,
    quiet: bool = False,
) -> None:
    """Run what the ledger in `out` lacks, then write and show what came out."""
    console = options.console()
    started = time.monotonic()
    checkpoint.make_folder(out)
    outputs.refuse_others(out, "dnc-sparse compare")
    compare_report.check_folder(out, task, chosen[0].sizes)
    epochs = task.config(chosen[0], 0).epochs

    def report(result: Result, done: int, total: int) -> None:
        seconds = time.monotonic() - started
        bars.ended(f"{result.version}, seed {result.seed}", done)
        if quiet:
            return
        console.print(
            f"[{done}/{total}] {result.version}, seed {result.seed}: "
            f"test accuracy {100 * result.test_accuracy:.2f} %  ({seconds:.0f} s)",
            highlight=False,
        )

    ledger = Ledger(out / "results.jsonl", Result)
    if ledger.results:
        console.print(f"{ledger.path} holds {len(ledger.results)} finished runs", highlight=False)

    def watch(version: Version, seed: int, epoch: int, done: int) -> None:
        bars.epoch(f"{version.name}, seed {seed}", epoch, done)

    seeds = range(n_seeds)
    with RunBars(len(chosen) * n_seeds, epochs, enabled=not quiet) as bars:
        results = run_all(
            task, chosen, seeds, ledger, threads=threads, jobs=jobs, report=report, watch=watch
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
    record = compare_report.record(task, chosen[0].sizes, rows, results)
    checkpoint.write_json(out / "comparison.json", record)
    written = [out / "comparison.json", ledger.path]
    # an earlier one would be of other rows
    outputs.remove(out, ["comparison.png"])
    if find_spec("matplotlib") is None:
        console.print("no figure: it needs matplotlib, pip install 'dnc-sparse[plot]'")
    else:
        compare_report.draw(rows, title, out / "comparison.png")
        written.append(out / "comparison.png")
    console.print(f"written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True)

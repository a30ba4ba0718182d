"""`dnc-hw sweep`: many machines on one data set, in parallel, resumed where it was stopped."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from dnc_hw import figures
from dnc_hw.cli import options
from dnc_hw.description import describe
from dnc_hw.sweep import (
    Study,
    Sweep,
    by_machine,
    fixed_part,
    grid,
    import_joblib,
    listed,
    mean,
)
from dnc_sparse.checkpoint import write_atomic, write_json
from dnc_sparse.cli import outputs
from dnc_sparse.cli.options import DataDir, DataName, DataOptions, console, numbers, pairs

PICTURES = ("pareto.png", "accuracy-bits.png", "accuracy-density.png")
# rows of the table on the screen; the files have all
SHOWN = 15


def sweep(
    machine: options.MachineName,
    out: Annotated[
        Path,
        typer.Option(
            callback=outputs.to_folder, help="Folder of the results; kept results are not rerun."
        ),
    ],
    data: DataName = "mnist",
    samples: options.Samples = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the samples.")] = 1,
    lanes: Annotated[
        list[str] | None, typer.Option(help="Lanes of each junction; repeat for every choice.")
    ] = None,
    fan_out: Annotated[
        list[str] | None,
        typer.Option("--fan-out", help="fan_out of each junction; repeat for every choice."),
    ] = None,
    density: Annotated[
        str | None, typer.Option(help="Instead: densities of every junction, 0.05,0.1,0.2.")
    ] = None,
    number: Annotated[
        list[str] | None,
        typer.Option("--format", help="Integer and fraction bits; repeat for every choice."),
    ] = None,
    pipeline: Annotated[str | None, typer.Option(help="Pipeline depths P, 0,2.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Kinds of edges, such as published,1,2,3.")
    ] = None,
    hazards: Annotated[
        str | None, typer.Option(help="Hazard policies, such as stall,forward,emulate.")
    ] = None,
    listed_in: Annotated[
        Path | None,
        typer.Option("--list", help="Instead: a TOML file of tables [[machine]] of these keys."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Runs per machine, with seeds 0, 1, ... of edges and values.")
    ] = 1,
    own_values: Annotated[
        bool, typer.Option("--own-values", help="An initial value per edge.")
    ] = False,
    device: options.Device = None,
    clock_mhz: options.ClockMhz = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    data_dir: DataDir = None,
    data_option: DataOptions = None,
) -> None:
    """Train and test every combination of the options given, or a list, and draw what it shows.

    Each result is kept as it finishes: the same command after Ctrl-C or a kill goes on with what is
    missing. OUT then has results.csv, results.json and pictures of all its results: time against
    resources, accuracy against bits and against density, where those vary. Further machines may be
    added; other data, samples or epochs need another folder. Combinations that are not legal
    machines stay in the files with the reason.

    **Example**

    dnc-hw sweep mnist-12bit --out runs/formats --format 2,5 --format 3,8 --seeds 3 --jobs 2
    """
    if jobs > 1:
        import_joblib()
    base = describe(machine) | {
        key: value for key, value in (("device", device), ("clock_mhz", clock_mhz)) if value
    }
    axes: dict[str, Any] = {
        "lanes": _tuples(lanes, "--lanes"),
        "fan_out": _tuples(fan_out, "--fan-out"),
        "density": [] if density is None else numbers(density, "--density", float),
        "number": [options.fixed_point(text) for text in number or []],
        "pipeline_clocks": [] if pipeline is None else numbers(pipeline, "--pipeline", int),
        "kind": _split(kind),
        "hazards": _split(hazards),
    }
    if listed_in is not None and any(axes.values()):
        raise ValueError("--list names its machines one by one; leave out the options of a grid")
    configurations = (
        grid(base, **axes, seeds=range(seeds))
        if listed_in is None
        else listed(base, listed_in, range(seeds))
    )
    study = Study(
        rest=fixed_part(base),
        data=data,
        data_dir=None if data_dir is None else str(data_dir),
        data_options=pairs(data_option),
        samples=samples,
        epochs=epochs,
        shared=not own_values,
    )
    outputs.refuse_others(out, "dnc-hw sweep")
    work = Sweep(study, configurations, out)
    shown = console()
    _run(work, jobs, shown)
    results = work.results()
    _write(results, out)
    legal = [each for each in results if "illegal" not in each]
    shown.print(_table(legal))
    refused = Counter(each["illegal"] for each in results if "illegal" in each)
    for reason, count in refused.most_common(SHOWN):
        shown.print(f"not legal ({count}): {reason}", highlight=False, soft_wrap=True)
    # those that an earlier sweep drew may show less than the table now has
    outputs.remove(out, PICTURES)
    try:
        drawn = _draw(legal, out)
    except ImportError as error:
        drawn = []
        shown.print(f"no pictures: {error}", highlight=False, soft_wrap=True)
    names = ", ".join(["results.csv", "results.json", *drawn])
    shown.print(f"written: {names} in {out}", highlight=False, soft_wrap=True)


def _run(work: Sweep, jobs: int, shown: Console) -> None:
    total, missing = len(work.configurations), len(work.missing)
    if missing < total:
        shown.print(f"{total - missing} of {total} results were there", highlight=False)
    console = Console(stderr=True, markup=False)
    progress = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console)
    done = total - missing
    try:
        with progress:
            task = progress.add_task("", total=total, completed=done)
            for _ in work.run(jobs):
                done += 1
                progress.update(task, completed=done)
    except KeyboardInterrupt as interrupt:
        kept = total - len(work.missing)
        raise KeyboardInterrupt(
            f"stopped with {kept} of {total} results kept; the same command goes on with the rest"
        ) from interrupt


def _write(results: Sequence[dict[str, Any]], out: Path) -> None:
    write_json(out / "results.json", results)
    columns = list(dict.fromkeys(name for each in results for name in each))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    for each in results:
        row = {k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in each.items()}
        table.writerow(row)
    write_atomic(out / "results.csv", text.getvalue().encode())


def _draw(legal: Sequence[dict[str, Any]], out: Path) -> list[str]:
    """Draw what varies and return the names of the files."""
    drawn = []
    if len({(each["input_us"], each["lut_estimate"]) for each in legal}) > 1:
        figures.save_pareto(legal, out / "pareto.png")
        drawn.append("pareto.png")
    if len({tuple(each["number"]) for each in legal}) > 1:
        figures.save_accuracy_by_format(legal, out / "accuracy-bits.png")
        drawn.append("accuracy-bits.png")
    if len({each["density"] for each in legal}) > 1:
        label = "density of the network, edges / those of the dense one"
        figures.save_accuracy(legal, "density", label, out / "accuracy-density.png")
        drawn.append("accuracy-density.png")
    return drawn


def _table(legal: Sequence[dict[str, Any]]) -> Table:
    """Show the most accurate machines, means over seeds."""
    ranked = sorted(by_machine(legal), key=lambda members: -mean(members, "test_accuracy"))
    table = Table(title="most accurate on the test split (means over seeds)")
    columns = ("lanes", "fan_out", "format", "P", "kind", "hazards", "seeds", "test, %")
    for name in (*columns, "last 1000, %", "us/input", "DSP", "fits"):
        table.add_column(name)
    for members in ranked[:SHOWN]:
        one = members[0]
        table.add_row(
            options.tuple_text(one["lanes"]),
            options.tuple_text(one["fan_out"]),
            options.tuple_text(one["number"]),
            str(one["pipeline_clocks"]),
            one["kind"],
            one["hazards"],
            str(len(members)),
            f"{100 * mean(members, 'test_accuracy'):.2f}",
            f"{100 * mean(members, 'last_accuracy'):.1f}",
            f"{one['input_us']:.3f}",
            str(one["dsp"]),
            "yes" if one["fits"] else "no",
        )
    if len(ranked) > SHOWN:
        table.caption = f"{len(ranked) - SHOWN} more in results.csv"
    return table


EXAMPLES = {"--lanes": "128,32", "--fan-out": "4,16"}


def _tuples(texts: list[str] | None, option: str) -> list[tuple[int, ...]]:
    return [numbers(text, option, int, EXAMPLES[option]) for text in texts or []]


def _split(text: str | None) -> list[str]:
    return [] if text is None else text.split(",")

"""`dnc-sparse bench`: time one junction, or a whole suite of measures with goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dnc_sparse import bench as timing
from dnc_sparse.backends import cpu
from dnc_sparse.bench import report
from dnc_sparse.checkpoint import write_json
from dnc_sparse.cli import options, outputs
from dnc_sparse.cli.bench_suite import run_suite
from dnc_sparse.patterns import nearest

# options that the other form of the command does not have
JUNCTION_OPTIONS = ("n_in", "n_out", "batch", "density", "block", "family", "dtype", "against")
SUITE_OPTIONS = ("quick", "plot", "only", "goals", "block_kernels")


def bench(
    context: typer.Context,
    n_in: Annotated[int, typer.Option("--n-in", min=1, help="Left neurons.")] = 1024,
    n_out: Annotated[int, typer.Option("--n-out", min=1, help="Right neurons.")] = 1024,
    batch: Annotated[int, typer.Option(min=1, help="Samples.")] = 256,
    density: Annotated[
        str, typer.Option(help="Densities, each timed in its own run.")
    ] = "0.5,0.25,0.125,0.0625,0.03125",
    block: options.BlockText = "auto",
    family: Annotated[
        str,
        typer.Option(help="auto, clash_free, cyclic, regular or random."),
    ] = "auto",
    dtype: Annotated[str, typer.Option(help=f"{', '.join(timing.DTYPES)}.")] = "float32",
    against: Annotated[
        str, typer.Option(help=f"Layers to compare with: {', '.join(timing.CANDIDATES)}.")
    ] = ",".join(timing.AGAINST),
    threads: options.Threads = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="Rounds in which every candidate runs once; by default 30."),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help=f"Take a table of measures instead: {', '.join(timing.SUITES)}."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few rounds, without the largest shapes.")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", callback=outputs.to_file, help="Write the figures into this file."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            callback=outputs.to_pictures,
            help="Folder for pictures: speed-up against density, and a roofline.",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Of a suite, only measures whose name contains this.")
    ] = None,
    goals: Annotated[
        bool, typer.Option("--goals", help="Of a suite, show our goals and which are met.")
    ] = False,
    block_kernels: Annotated[
        bool,
        typer.Option("--block-kernels", help="On a GPU, race the CUDA kernels for blocks too."),
    ] = False,
) -> None:
    """Time one junction: nn.Linear, SparseLinear and the layers of --against in the same run.

    Forward is the layer without gradients; a step is forward and the gradients of input, weight and
    bias. Figures are medians over interleaved rounds; results are checked before anything is timed.

    With --suite a table of measures is taken, each with one thread and with two (or as many as
    --threads says); --goals compares it with what we aim at.
    """
    if suite is not None:
        _refuse_given(context, JUNCTION_OPTIONS, f"the measures of --suite {suite} have their own")
        run_suite(suite, threads, rounds, quick, json_file, plot, only, block_kernels, goals)
        return
    _refuse_given(context, SUITE_OPTIONS, "it goes with --suite")
    if dtype not in timing.DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; choose among {', '.join(timing.DTYPES)}")
    used = options.set_threads(threads)
    rounds = 30 if rounds is None else rounds
    size = options.block(block)
    console = options.console()
    title = (
        f"{n_in} -> {n_out}, batch {batch}, {dtype}, {used} thread{'s' * (used > 1)}, "
        f"{cpu.active_instruction_set()}"
    )
    table = Table(title=title)
    for name in ("density", "layer", "forward", "/ dense", "step", "/ dense"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    records = []
    timings: list[timing.Timing] = []
    for asked in options.numbers(density, "--density", float):
        pattern = nearest(n_in, n_out, density=asked, family=family, block=size)
        with console.status(f"timing density {pattern.density:.4g}"):
            found = timing.measure(
                pattern, batch, timing.DTYPES[dtype], rounds, against=against.split(",")
            )
        records.append({"pattern": pattern.spec, "timings": [asdict(row) for row in found]})
        bo, bi = pattern.block
        _add_rows(table, f"{pattern.density:.4g} {bo}x{bi}", found)
        timings += found
    console.print(table)
    _print_reasons(console, timings)
    if json_file is not None:
        sizes = {"n_in": n_in, "n_out": n_out, "batch": batch, "dtype": dtype, "rounds": rounds}
        record = {**report.circumstances(), **sizes, "threads": used, "junctions": records}
        write_json(json_file, record)
        console.print(f"written: {json_file}", highlight=False, soft_wrap=True)


def _refuse_given(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """Raise ValueError when one of the parameters was given on the command line."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ValueError(f"leave out --{name.replace('_', '-')}: {reason}")


def _add_rows(table: Table, density: str, timings: Sequence[timing.Timing]) -> None:
    """Add a row per candidate of one density; the density is written once."""
    forward, step = (
        [row for row in timings if row.operation == operation]
        for operation in timing.JUNCTION_OPERATIONS
    )
    for first, second in zip(forward, step, strict=True):
        table.add_row(
            density if first is forward[0] else "",
            first.candidate,
            *_cells(first),
            *_cells(second),
            end_section=first is forward[-1],
        )


def _cells(row: timing.Timing) -> tuple[str, str]:
    if row.seconds is None:
        return "-", "-"
    return f"{row.seconds * 1e6:,.0f} us", f"{row.ratio_to_dense:.3f}"


def _print_reasons(console: Console, timings: Sequence[timing.Timing]) -> None:
    rows = [(f"{row.candidate} {row.operation}", row.unavailable) for row in timings]
    for text in report.reasons(rows):
        console.print(f"-  {text}", highlight=False, soft_wrap=True)

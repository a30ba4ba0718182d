"""`dnc-sparse bench`: time one junction, sparse against dense."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from dnc_sparse import bench as timing
from dnc_sparse.backends import cpu
from dnc_sparse.checkpoint import write_json
from dnc_sparse.cli import options
from dnc_sparse.machine import describe as describe_machine
from dnc_sparse.patterns import nearest

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def bench(
    n_in: Annotated[int, typer.Option("--n-in", min=1, help="Left neurons.")] = 1024,
    n_out: Annotated[int, typer.Option("--n-out", min=1, help="Right neurons.")] = 1024,
    batch: Annotated[int, typer.Option(min=1, help="Samples.")] = 256,
    density: Annotated[
        str, typer.Option(help="Densities, each timed in its own run.")
    ] = "0.5,0.25,0.125,0.0625,0.03125",
    block: options.BlockText = "1",
    family: Annotated[
        str,
        typer.Option(help="auto, clash_free, cyclic, regular or random."),
    ] = "auto",
    dtype: Annotated[str, typer.Option(help=f"{', '.join(DTYPES)}.")] = "float32",
    threads: options.Threads = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds in which every candidate runs once.")
    ] = 30,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures into this file.")
    ] = None,
) -> None:
    """Time one junction: nn.Linear, SparseLinear and torch's CSR matrix in the same run.

    Forward is the layer without gradients; a step is forward and the gradients of input, weight and
    bias. Figures are medians over interleaved rounds; results are checked before anything is timed.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; choose among {', '.join(DTYPES)}")
    used = options.set_threads(threads)
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
    for asked in options.numbers(density, "--density", float):
        pattern = nearest(n_in, n_out, density=asked, family=family, block=size)
        with console.status(f"timing density {pattern.density:.4g}"):
            timings = timing.measure(pattern, batch, DTYPES[dtype], rounds)
        records.append({"pattern": pattern.spec, "timings": [asdict(row) for row in timings]})
        forward, step = (
            [row for row in timings if row.operation == operation]
            for operation in timing.OPERATIONS
        )
        for first, second in zip(forward, step, strict=True):
            table.add_row(
                f"{pattern.density:.4g}" if first is forward[0] else "",
                first.candidate,
                *(_microseconds(first), f"{first.ratio_to_dense:.3f}"),
                *(_microseconds(second), f"{second.ratio_to_dense:.3f}"),
                end_section=first is forward[-1],
            )
    console.print(table)
    if json_file is not None:
        sizes = {"n_in": n_in, "n_out": n_out, "batch": batch, "dtype": dtype, "rounds": rounds}
        record = {"machine": describe_machine(), **sizes, "threads": used, "junctions": records}
        write_json(json_file, record)
        console.print(f"written: {json_file}", highlight=False, soft_wrap=True)


def _microseconds(row: timing.Timing) -> str:
    return f"{row.seconds * 1e6:,.0f} us"

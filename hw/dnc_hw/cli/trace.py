"""`dnc-hw trace`: memory and port activity, clock by clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dnc_hw import activity
from dnc_hw.cli import options
from dnc_hw.cli.resources import headline
from dnc_hw.config import machine_from
from dnc_sparse.checkpoint import write_atomic
from dnc_sparse.cli import outputs
from dnc_sparse.cli.options import console


@options.on_machine()
def trace(
    described: dict[str, Any],
    first: Annotated[int, typer.Option(min=0, help="First junction cycle.")] = 0,
    cycles: Annotated[int, typer.Option(min=1, help="Junction cycles.")] = 6,
    addresses: Annotated[
        bool,
        typer.Option("--addresses", help="Also the word that each memory of a bank is at."),
    ] = False,
    vcd: Annotated[
        Path | None,
        typer.Option(callback=outputs.to_file, help="Write a waveform, for GTKWave and the like."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(callback=outputs.to_file, help="Write a table, a line per access."),
    ] = None,
) -> None:
    """Write which memories are accessed in which clock, by which unit and for what.

    Accesses do not depend on the data, so none is needed.
    """
    if vcd is None and csv is None:
        raise ValueError("a trace goes into a file; give --vcd FILE, --csv FILE or both")
    built = machine_from(described)
    log = activity.accesses(built, first, cycles)
    shown = console()
    shown.print(headline(built), highlight=False, soft_wrap=True)
    if vcd is not None:
        _write(vcd, activity.as_vcd(built, log, first, cycles, addresses=addresses), shown)
    if csv is not None:
        _write(csv, activity.as_csv(log, addresses=addresses), shown)
    shown.print(
        f"{len(log):,} accesses in {cycles} junction cycles of {built.cycle_clocks} clocks, "
        f"{1000 / built.clock_mhz:.4g} ns each",
        highlight=False,
    )


def _write(path: Path, text: str, shown: Console) -> None:
    write_atomic(path, text.encode())
    shown.print(f"written: {path}", highlight=False, soft_wrap=True)

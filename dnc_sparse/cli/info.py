"""`dnc-sparse info`: what is here, and why something is not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dnc_sparse import machine
from dnc_sparse.backends import BACKENDS, amx, cpu, openmp
from dnc_sparse.cli import options
from dnc_sparse.data import available


def info(
    data_dir: options.DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record.")] = False,
) -> None:
    """Show versions, backends, instruction sets, threads and data sets.

    What is unavailable is listed with its reason. Mention this output when you report a problem.
    """
    record = collect(data_dir)
    console = options.console()
    if as_json:
        console.print_json(json.dumps(record))
    else:
        show(record, console)


def collect(data_dir: Path | None) -> dict[str, Any]:
    """Return everything as a JSON-able record; a reason stands where something is unavailable."""
    # the compiled kernels bring their OpenMP runtime when they are loaded, so they come first
    backends = {name: backend.unavailable() for name, backend in BACKENDS.items()}
    usable = backends["cpu"] is None
    loaded = openmp.runtimes()
    return {
        "machine": machine.describe(),
        "backends": backends,
        "instruction_sets": cpu.instruction_sets() if usable else {},
        "active_instruction_set": cpu.active_instruction_set() if usable else None,
        "matrix_units": {"amx": amx.unavailable()} if usable else {},
        "openmp": [str(path) for path in loaded],
        "openmp_conflict": openmp.conflict(loaded),
        "data": [row._asdict() for row in available(data_dir)],
    }


def show(record: dict[str, Any], console: Console) -> None:
    """Print the record for a person to read."""
    for name, value in record["machine"].items():
        # an installed package knows no commit
        if value is not None:
            console.print(f"{name:<12}{value}", highlight=False)
    _print_reasons(console, "backends", record["backends"])
    if record["instruction_sets"]:
        sets, active = record["instruction_sets"], record["active_instruction_set"]
        _print_reasons(console, "instruction sets of the cpu backend", sets, active)
        _print_reasons(console, "matrix units, for bfloat16", record["matrix_units"])
    console.print("OpenMP runtimes loaded", style="bold")
    for path in record["openmp"] or ["none"]:
        console.print(f"  {path}", highlight=False, soft_wrap=True)
    if record["openmp_conflict"]:
        console.print(f"warning: {record['openmp_conflict']}", style="yellow", soft_wrap=True)
    rows = {row["name"]: (row["where"], row["description"]) for row in record["data"]}
    # the many variants of one generator would hide the rest
    shown = {name: row for name, row in rows.items() if not name.startswith("morse-")}
    _print_table(console, "data sets", shown)


def _print_reasons(
    console: Console, title: str, reasons: dict[str, str | None], active: str | None = None
) -> None:
    rows = {
        name: (f"no: {reason}" if reason else "in use" if name == active else "usable",)
        for name, reason in reasons.items()
    }
    _print_table(console, title, rows)


def _print_table(console: Console, title: str, rows: Mapping[str, Sequence[str]]) -> None:
    console.print(title, style="bold")
    table = Table(box=None, padding=(0, 2), show_header=False)
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)

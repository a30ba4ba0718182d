"""`dnc-hw validate`: hold a simulator against recordings of the published design."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import Annotated, cast

import typer
from rich.table import Table
from rich.text import Text

from dnc_hw import validation
from dnc_hw.cli import options
from dnc_hw.recording import find_recordings
from dnc_sparse.checkpoint import write_json
from dnc_sparse.cli.options import DataDir, console


def validate(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Recordings; by default all of the data folder."),
    ] = None,
    simulator: Annotated[
        str, typer.Option(help="engine (fast) or model (the readable one: hours for all files).")
    ] = "engine",
    details: Annotated[
        bool, typer.Option("--details", help="A row for every quantity of every file.")
    ] = False,
    data_dir: DataDir = None,
    json_file: options.JsonFile = None,
) -> None:
    """Run recorded stimuli and compare every recorded value and clock; exit code 2 for differences.

    Nothing is tolerated: a value counts as differing unless it is equal.
    """
    shown = console()
    # an unknown name is refused by the first call
    chosen = cast(validation.SimulatorName, simulator)
    rows: list[validation.Row] = []
    for path in files or find_recordings(data_dir):
        with shown.status(Text(f"running {path}")):
            rows += validation.validate(data_dir, simulator=chosen, files=[path])
    shown.print(_table(rows, details))
    for row in rows:
        if row.simulated is not None:
            shown.print(
                f"{row.file}: of the last {validation.WINDOW:,} inputs correct, after each pass: "
                f"{' '.join(map(str, row.simulated))}",
                highlight=False,
                soft_wrap=True,
            )
    if json_file is not None:
        write_json(json_file, [asdict(row) for row in rows])
    compared, differing = (sum(getattr(row, n) for row in rows) for n in ("compared", "differing"))
    if differing:
        raise RuntimeError(
            f"{differing:,} of {compared:,} recorded values differ; --details names the quantities"
        )
    shown.print(f"all {compared:,} recorded values are equal", highlight=False)


def _table(rows: list[validation.Row], details: bool) -> Table:
    table = Table(title="recorded against simulated values")
    for name in ("file", "quantity", "compared", "differing", "first difference"):
        table.add_column(name, justify="right" if name in ("compared", "differing") else "left")
    for file, of_file in groupby(rows, key=lambda row: row.file):
        own = list(of_file)
        if not details:
            wrong = [row for row in own if row.differing]
            own = [
                validation.Row(
                    file,
                    f"{len(own)} quantities",
                    sum(row.compared for row in own),
                    sum(row.differing for row in own),
                    wrong[0].first if wrong else None,
                )
            ]
        for row in own:
            place = "" if row.first is None else str(list(row.first))
            table.add_row(row.file, row.quantity, f"{row.compared:,}", f"{row.differing:,}", place)
    return table

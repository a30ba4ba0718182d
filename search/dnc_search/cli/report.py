"""`dnc-search report`: a search as one page of HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dnc_search.cli import options
from dnc_search.cli.found import found
from dnc_search.report import write_report
from dnc_sparse.cli import options as sparse_options
from dnc_sparse.cli import outputs


def report(
    out: options.Out = None,
    storage: options.Storage = None,
    name: options.Name = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", callback=outputs.to_file, help="The page; else report.html in --out."
        ),
    ] = None,
) -> None:
    """Write what a search found, and how, as one page with figures; at any time, also before it
    is done.

    **Example**

    dnc-search report --out runs/first
    """
    if file is None:
        if out is None:
            raise ValueError("say where the page goes: --file, or --out with the search's folder")
        file = out / "report.html"
    with options.open_ledger(storage, out, name, read_only=True) as ledger:
        write_report(found(ledger), file)
    sparse_options.console().print(f"written: {file}", highlight=False, soft_wrap=True)

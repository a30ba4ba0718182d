"""`dnc-search worker`: work on a search that was begun somewhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dnc_search.assembly import assemble
from dnc_search.cli import options
from dnc_search.definition import Search
from dnc_search.ledger import Ledger
from dnc_search.worker import Worker
from dnc_sparse.cli import options as sparse_options


def worker(
    out: options.Out = None,
    storage: options.Storage = None,
    name: options.Name = None,
    data: Annotated[
        Path | None, typer.Option(help="Where the .npz of the search lies on this machine.")
    ] = None,
    space_file: Annotated[
        Path | None, typer.Option(help="Where the file of your own space lies on this machine.")
    ] = None,
    data_dir: sparse_options.DataDir = None,
    threads: sparse_options.Threads = None,
) -> None:
    """Work on a search until it is done, beside any other workers, on this machine or another.

    The ledger says what is searched; only where the data files are may differ. Ctrl-C gives the
    candidate in training back.

    **Example**

    dnc-search worker --storage postgresql://user@machine/searches --name first --out runs/first
    """
    sparse_options.set_threads(threads)
    console = Console(stderr=True, markup=False)

    def tell(line: str) -> None:
        console.print(line, highlight=False)

    with options.open_ledger(storage, out, name) as ledger:
        search = defined(ledger)
        if data is not None:
            search = replace(search, data=str(data))
        course, training = assemble(
            search, folder=out or Path(ledger.name), data_dir=data_dir, space_file=space_file
        )
        Worker(ledger, course, training, tell=tell).run()
        tell(f"nothing is left to do in {ledger.name}")


def defined(ledger: Ledger) -> Search:
    """Return the ledger's search. Raises ValueError, naming those there are, without one."""
    search = ledger.definition()
    if search is None:
        there = ", ".join(ledger.searches()) or "none"
        raise ValueError(
            f"{ledger.url} holds no search named {ledger.name!r}; there: {there}; "
            f"choose one with --name, or begin one with dnc-search run"
        )
    return search

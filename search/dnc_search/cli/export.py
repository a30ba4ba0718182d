"""`dnc-search export`: a found network to take away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dnc_search.assembly import course_of, weights_of
from dnc_search.cli import options
from dnc_search.cli.found import found
from dnc_search.export import export as write
from dnc_search.findings import Findings, Winner
from dnc_search.stages import FINAL
from dnc_sparse.cli import options as sparse_options
from dnc_sparse.cli import outputs


def export(
    to: Annotated[
        Path, typer.Option("--to", callback=outputs.to_folder, help="Folder for the network.")
    ],
    out: options.Out = None,
    storage: options.Storage = None,
    name: options.Name = None,
    wc: Annotated[
        float | None, typer.Option("--wc", help="What is wanted; else the search's own first.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="Of the configuration: json or yaml.")
    ] = "json",
) -> None:
    """Write the best network under some w_c: its configuration, its weights, and a script in plain
    PyTorch that rebuilds, trains and tests it without this package (sparse layers need dnc_sparse).

    The weights are those of its first final run, where the search has come so far.

    **Example**

    dnc-search export --out runs/first --wc 0.1 --to best
    """
    if form not in ("json", "yaml"):
        raise ValueError(f"--format must be json or yaml, got {form!r}")
    with options.open_ledger(storage, out, name, read_only=True) as ledger:
        findings = found(ledger)
    winner = findings.winner(findings.search.w_c[0] if wc is None else wc)
    seed, weights = _run(findings, winner, out)
    files = write(findings, winner, to, seed, weights, form)  # type: ignore[arg-type]
    console = sparse_options.console()
    console.print(findings.network(winner.record), highlight=False)
    for file in files:
        console.print(f"written: {file}", highlight=False, soft_wrap=True)
    if weights is None:
        console.print(
            "no trained weights: the search has no final run of this network here; "
            "train.py trains it",
            highlight=False,
        )


def _run(findings: Findings, winner: Winner, out: Path | None) -> tuple[int, Path | None]:
    """Return seed and weights of the winner's first final run whose weights are here.

    Not of the one with the lowest test error: that would be chosen by the test samples.
    """
    course = course_of(findings.search, findings.space, findings.shape)
    for run in winner.finals:
        weights = None if out is None else weights_of(out, run.slot)
        if weights is not None and weights.is_file():
            return course.seed(FINAL, run.slot), weights
    return course.seed(FINAL, 0), None

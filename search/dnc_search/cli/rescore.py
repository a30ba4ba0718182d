"""`dnc-search rescore`: the best networks under any other w_c or penalty, without training."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from rich.table import Table

from dnc_search.cli import options
from dnc_search.cli.found import found
from dnc_search.findings import Findings
from dnc_sparse.cli import options as sparse_options


def rescore(
    wc: Annotated[str, typer.Option("--wc", help="One w_c, or several with commas between.")],
    out: options.Out = None,
    storage: options.Storage = None,
    name: options.Name = None,
    penalty: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=SHARE]",
            help="Judge by these complexities instead of the search's own; may be repeated.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Networks to show for each w_c.")] = 3,
) -> None:
    """Rank everything a search has trained under another w_c, or other complexities.

    Every candidate's measures are in the ledger, so nothing is trained.

    **Examples**

    dnc-search rescore --out runs/first --wc 0.03,0.3

    dnc-search rescore --out runs/first --wc 0.1 --penalty seconds_per_epoch
    """
    with options.open_ledger(storage, out, name, read_only=True) as ledger:
        findings = found(ledger)
    if penalty:
        search = replace(findings.search, penalty=options.shares(penalty))
        findings = replace(findings, search=search)
    console = sparse_options.console()
    for value in sparse_options.numbers(wc, "--wc", float):
        console.print(_table(findings, value, top))


def _table(findings: Findings, w_c: float, top: int) -> Table:
    # raises before anything is shown when there is nothing to rank
    findings.winner(w_c)
    names = list(dict.fromkeys([*findings.search.penalty, "parameters"]))
    table = Table("f", "network", "error", *names, "found in", box=None, pad_edge=False)
    table.title, table.title_justify = f"w_c = {w_c:g}", "left"
    for record in findings.ranking(w_c)[:top]:
        measures = (f"{record.measures[name]:,g}" for name in names)
        error = f"{100 * record.error:.2f} %"
        score = f"{findings.score(record, w_c):.4f}"
        place = f"{record.stage} {record.slot + 1}"
        table.add_row(score, findings.network(record), error, *measures, place)
    return table

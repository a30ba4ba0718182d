"""`dnc-search transfer`: found networks on other data."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from dnc_search.assembly import load_data
from dnc_search.cli import options
from dnc_search.cli.crew import Crew
from dnc_search.cli.found import found
from dnc_search.cli.run import checked, follow
from dnc_search.cli.task import tell_task
from dnc_search.definition import digest_of
from dnc_search.evaluation import shape_of
from dnc_search.ledger import Ledger
from dnc_sparse.checkpoint import make_folder
from dnc_sparse.cli import options as sparse_options
from dnc_sparse.cli import outputs


def transfer(
    data: sparse_options.DataName,
    source: Annotated[Path, typer.Option("--from", help="Folder of the search that found them.")],
    out: Annotated[
        Path,
        typer.Option("--out", callback=outputs.to_folder, help="Folder of the new search."),
    ],
    wc: Annotated[
        str | None, typer.Option("--wc", help="Take the winners of these w_c; else all.")
    ] = None,
    initial: Annotated[
        int | None, typer.Option(help="Candidates of the first design of training.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Candidates proposed after it.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each candidate.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes, which share the cores.")] = 1,
    threads: sparse_options.Threads = None,
    data_dir: sparse_options.DataDir = None,
    data_option: sparse_options.DataOptions = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Take the networks that a search found to other data, and search anew only how to train them.

    Inputs, outputs and densities are fitted to the new data; everything else stays as it was in the
    first search, but for the options given.

    **Example**

    dnc-search transfer --from runs/fashion --data mnist --out runs/mnist
    """
    outputs.refuse_others(out, "dnc-search")
    with options.open_ledger(None, source, None, read_only=True) as ledger:
        findings = found(ledger)
    before = findings.search
    w_c = before.w_c if wc is None else sparse_options.numbers(wc, "--wc", float)
    path = options.data_path(data)
    data_options = sparse_options.pairs(data_option)
    winners = {findings.winner(each).record.key: findings.winner(each).record for each in w_c}
    changes = sparse_options.given(initial=initial, steps=steps)
    search = replace(
        before,
        name=options.search_name(None, out),
        data=path,
        data_options=data_options,
        data_digest=digest_of(path),
        settings={**before.settings, **sparse_options.given(epochs=epochs)},
        w_c=w_c,
        seed=seed,
        # the networks stand
        filter="none",
        **changes,
    )
    loaded = load_data(search, data_dir)
    tell_task(loaded)
    shape = shape_of(loaded)
    start = tuple(findings.space.complete(r.config, shape) for r in winners.values())
    search = replace(search, shape=asdict(shape), start=start)
    course = checked(search, findings.space, shape)
    make_folder(out)
    with Ledger(options.storage_url(None, out), search.name) as ledger:
        ledger.define(search)
        crew = Crew(ledger, out=out, data_dir=data_dir, jobs=jobs, threads=threads)
        follow(ledger, course, crew, lambda c: findings.space.summary(c, shape), quiet=quiet)

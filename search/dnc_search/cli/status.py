"""`dnc-search status`: how far a search is, once or as it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from statistics import mean
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table

from dnc_search.assembly import course_of, shape_from
from dnc_search.cli import options
from dnc_search.cli.worker import defined
from dnc_search.overview import Overview, overview
from dnc_search.parameters import Config
from dnc_search.spaces import space_from_record
from dnc_sparse.cli import options as sparse_options

REFRESH_SECONDS = 2.0
Summary = Callable[[Config], str]


def status(
    out: options.Out = None,
    storage: options.Storage = None,
    name: options.Name = None,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
) -> None:
    """Show how far a search is: its stages, the best networks, what runs where, the time left.

    Nothing is written, so it may be looked at from anywhere, as often as you like.

    **Example**

    dnc-search status --out runs/first
    """
    console = sparse_options.console()
    with options.open_ledger(storage, out, name, read_only=True) as ledger:
        search = defined(ledger)
        space, shape = space_from_record(search.space), shape_from(search)
        course = course_of(search, space, shape)

        def summary(config: Config) -> str:
            return space.summary(config, shape)

        if once or not console.is_terminal:
            console.print(picture(overview(ledger, course), summary))
            return
        with Live(console=console, refresh_per_second=1) as live:
            while True:
                now = overview(ledger, course)
                live.update(picture(now, summary))
                if now.is_finished or now.failure is not None:
                    return
                time.sleep(REFRESH_SECONDS)


def picture(now: Overview, summary: Summary) -> RenderableType:
    """Return a search as tables: its stages, the best of each w_c, and what is running."""
    stages = _table("stage", "slots", "done", "running", "failed")
    for stage in now.stages:
        counts = (stage.budget, stage.done, stage.running, stage.failed)
        stages.add_row(stage.name, *(str(count) for count in counts))
    parts: list[RenderableType] = [stages]
    if now.best:
        parts.append(best_table(now, summary))
    if now.running:
        running = _table("running", "slot", "epoch", "worker")
        for each in now.running:
            running.add_row(each.stage, str(each.slot + 1), str(each.epoch), each.worker)
        parts.append(running)
    return Group(*parts, headline(now))


def best_table(now: Overview, summary: Summary) -> Table:
    """Return the best candidate of each w_c as a table, with the mean of its final runs."""
    tests = {w_c: now.test_errors(record) for w_c, record in now.best.items()}
    tested = ["test error"] if any(tests.values()) else []
    table = _table("w_c", "best so far", "error", *tested, "parameters", "found in")
    table.columns[1].no_wrap = False
    for w_c, record in now.best.items():
        parameters = record.measures.get("parameters")
        test = f"{100 * mean(tests[w_c]):.2f} %" if tests[w_c] else ""
        table.add_row(
            f"{w_c:g}",
            summary(record.config),
            f"{100 * record.error:.2f} %",
            *[test] * len(tested),
            "" if parameters is None else f"{parameters:,.0f}",
            f"{record.stage} {record.slot + 1}",
        )
    return table


def headline(now: Overview) -> str:
    """Return how much is done and what is left in one line."""
    line = f"{now.done} of {now.slots} slots done"
    if now.failure is not None:
        return f"{line}: the search has failed: {now.failure}"
    if now.is_finished:
        return f"{line}: the search is finished"
    if now.running:
        each = now.running[0]
        line += f", {each.stage} {each.slot + 1} after {each.epoch} epochs"
    left = now.seconds_left
    return line if left is None else f"{line}, about {timedelta(seconds=round(left))} left"


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.no_wrap = True
    return table

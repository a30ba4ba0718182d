"""A search from its definition to its end, on this machine, for a person to watch."""

from __future__ import annotations

from pathlib import Path

from dnc_search.assembly import course_of, load_data, shape_from
from dnc_search.cli.crew import Crew
from dnc_search.cli.screen import Screen
from dnc_search.cli.status import best_table, headline
from dnc_search.definition import Search
from dnc_search.ledger import Ledger
from dnc_search.overview import overview
from dnc_search.parameters import Config
from dnc_search.spaces import check_space, space_from_record
from dnc_sparse.cli import options


def conduct(
    ledger: Ledger,
    search: Search,
    out: Path,
    data_dir: Path | None,
    *,
    jobs: int,
    threads: int | None,
    quiet: bool,
) -> None:
    """Check the search, set workers to it, and show how it goes until it is done.

    Raises ValueError for what cannot be searched, before any training; RuntimeError when the
    workers end before the search does.
    """
    load_data(search, data_dir)
    space, shape = space_from_record(search.space), shape_from(search)
    course = course_of(search, space)
    if ledger.definition() is None:
        check_space(space, shape)
    ledger.define(search)

    def summary(config: Config) -> str:
        return space.summary(config, shape)

    crew = Crew(ledger, out=out, data_dir=data_dir, jobs=jobs, threads=threads)
    with Screen(summary, enabled=not quiet) as screen, crew:
        while crew.is_working():
            screen.show(overview(ledger, course))
        screen.show(overview(ledger, course))
    now = overview(ledger, course)
    if not now.is_finished:
        raise RuntimeError(
            f"no worker is left, but only {now.done} of {now.slots} slots are done; what is above "
            f"says why; run the same command again to go on"
        )
    console = options.console()
    console.print(best_table(now, summary))
    console.print(f"{headline(now)}; ledger and weights are in {out}", highlight=False)

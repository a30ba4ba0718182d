"""What a suite found, as a table for the terminal and as a JSON record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from dnc_sparse.backends import cpu, gpu
from dnc_sparse.bench.roofs import Roofs
from dnc_sparse.bench.suite import Effort, Outcome
from dnc_sparse.bench.sweep import Point
from dnc_sparse.machine import describe

PEERS = ("scipy", "sparseprop", "sparselab", "triton", "stanford-stk", "blksprs")


def table(
    outcomes: Sequence[Outcome], threads: Sequence[int], title: str, *, goals: bool = False
) -> Table:
    """Return a line per measure with its value for each number of threads.

    With `goals` each has its goal too, and each value a verdict.

    A dash stands where nothing could be measured; `reasons` says why.
    """
    result = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("measure", "of"):
        result.add_column(heading)
    for heading in (*["goal"] * goals, *map(_heading, threads)):
        result.add_column(heading, justify="right")
    row_before = None
    for measure, group in groupby(outcomes, key=lambda outcome: outcome.measure):
        cells = {outcome.threads: _verdict(outcome, goals) for outcome in group}
        # a measure that sets its own threads has one value, in the last column
        cells.setdefault(max(threads), cells.get(0, Text()))
        first = "" if measure.row == row_before else measure.row
        row_before = measure.row
        shown = [cells.get(count, "") for count in threads]
        result.add_row(first, measure.detail, *[str(measure.goal)] * goals, *shown)
    return result


def block_table(outcomes: Sequence[Outcome], *, goals: bool = False) -> Table:
    """Return the speed-ups of blocks over dense: a line per side and operation, by density."""
    result = Table(box=SIMPLE_HEAD, pad_edge=False)
    cells: dict[tuple[int, str], dict[str, Text]] = {}
    for outcome in outcomes:
        run = outcome.measure.run
        line = cells.setdefault((run.setting.block, run.operation), {})
        line[outcome.measure.detail] = _verdict(outcome, goals)
    result.add_column("block", justify="right")
    result.add_column("of")
    densities = list(dict.fromkeys(outcome.measure.detail for outcome in outcomes))
    for density in densities:
        result.add_column(density, justify="right")
    for (block, operation), line in cells.items():
        result.add_row(str(block), operation, *(line.get(density, "") for density in densities))
    return result


def _heading(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}" if threads else "value"


def _verdict(outcome: Outcome, goals: bool) -> Text:
    if outcome.value is None:
        return Text("-")
    digits = 3 if outcome.value < 10 else 1
    if not goals:
        return Text(f"{outcome.value:.{digits}f}")
    style, word = ("green", "met") if outcome.met else ("red", "missed")
    return Text.assemble(f"{outcome.value:.{digits}f} ", (f"{word:>6}", style))


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return how many goals are met."""
    known = [outcome.met for outcome in outcomes if outcome.met is not None]
    return f"{sum(known)} of {len(known)} goals met"


def reasons(rows: Sequence[tuple[str, str | None]]) -> list[str]:
    """Return why there are dashes: "reason: what it is the reason of", each reason once."""
    found: dict[str, list[str]] = {}
    for name, reason in rows:
        if reason is not None:
            names = found.setdefault(reason, [])
            if name not in names:
                names.append(name)
    return [f"{', '.join(names)}: {reason}" for reason, names in found.items()]


def record(
    outcomes: Sequence[Outcome],
    effort: Effort,
    points: Sequence[Point] = (),
    roofs: Roofs | None = None,
    *,
    where: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return everything, with `where` (by default the `circumstances` now), JSON-able."""
    return {
        **(circumstances() if where is None else where),
        "effort": asdict(effort),
        "measures": [_outcome(outcome) for outcome in outcomes],
        "sweep": [asdict(point) for point in points],
        "roofs": None if roofs is None else asdict(roofs),
    }


def circumstances() -> dict[str, Any]:
    """Return the machine, and the versions of what is compared with."""
    return {
        "machine": describe() | {"instruction_set": cpu.active_instruction_set()} | gpu.describe(),
        "peers": {name: _version(name) for name in PEERS},
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _outcome(outcome: Outcome) -> dict[str, Any]:
    measure = outcome.measure
    return {
        **asdict(measure),
        "goal": str(measure.goal),
        "threads": outcome.threads,
        "seconds": outcome.seconds,
        "against_seconds": outcome.against_seconds,
        "value": outcome.value,
        "met": outcome.met,
        "unavailable": outcome.unavailable,
        "failed": outcome.failed,
    }

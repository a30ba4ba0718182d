"""`dnc-hw schedule`: the pipeline of a machine as a diagram."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dnc_hw import figures
from dnc_hw import schedule as timing
from dnc_hw.cli import options
from dnc_hw.cli.resources import headline
from dnc_hw.config import machine_from
from dnc_hw.diagram import pipeline_text
from dnc_sparse.cli.options import console


@options.on_machine()
def schedule(
    described: dict[str, Any],
    cycles: Annotated[
        int | None,
        typer.Option(min=1, help="Junction cycles drawn; by default until every unit works."),
    ] = None,
    plot: options.Plot = None,
) -> None:
    """Show which input every unit works on in each junction cycle, and what that costs.

    FF is feed-forward, BP back-propagation, UP the update; the number is the junction.
    """
    if plot is not None:
        figures.check_matplotlib()
    built = machine_from(described)
    last = built.junctions
    drawn = timing.update_delay(last, 1) + 3 if cycles is None else cycles
    shown = console()
    shown.print(headline(built), highlight=False, soft_wrap=True)
    shown.print(pipeline_text(last, drawn), highlight=False, soft_wrap=True)
    rows = max(issue.clocks for issue in built.issues)
    flush = built.cycle_clocks - rows
    shown.print(
        f"a junction cycle is {built.cycle_clocks} clocks: {rows} to issue the edges and "
        f"{flush} to flush; each starts one input",
        highlight=False,
    )
    for i in range(1, last + 1):
        issue = built.issues[i - 1]
        stalls = issue.clash_stall_clocks + issue.hazard_stall_clocks
        stalled = f" and stalled in {stalls}" if stalls else ""
        shown.print(
            f"junction {i}: busy in {issue.clocks - stalls} of {rows} clocks{stalled}; inputs not "
            f"yet in the weights that an input meets: {timing.staleness(last, i)}",
            highlight=False,
        )
    shown.print(
        f"latency: {timing.inference_latency_cycles(last)} junction cycles to a winner, "
        f"{timing.training_latency_cycles(last)} to the last update",
        highlight=False,
    )
    if plot is not None:
        figures.save_schedule(built, drawn, plot)
        shown.print(f"drawn: {plot}", highlight=False, soft_wrap=True)

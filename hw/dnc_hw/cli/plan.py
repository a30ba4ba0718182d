"""`dnc-hw plan`: every choice of lanes for a network and a device."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from dnc_hw import planning
from dnc_hw.cli import options
from dnc_hw.rates import rates_of
from dnc_sparse.checkpoint import write_json
from dnc_sparse.cli.options import console


@options.on_machine("lanes")
def plan(
    described: dict[str, Any],
    every: Annotated[
        bool, typer.Option("--all", help="Also those that do not fit the device.")
    ] = False,
    best: Annotated[
        bool, typer.Option("--best", help="Only those that no other beats in time and DSP.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows shown; --json has all.")] = 20,
    json_file: options.JsonFile = None,
) -> None:
    """List every legal choice of lanes, fastest first.

    A star marks the choices that no other beats: none is as fast with fewer DSP.
    """
    shown = console()
    with shown.status("building machines"):
        choices = planning.plan(described, all_sizes=every)
    if best:
        choices = [choice for choice in choices if choice.best]
    shown.print(_table(choices[:limit]))
    if len(choices) > limit:
        shown.print(f"{len(choices) - limit} more; --limit shows them, --json has all")
    if json_file is not None:
        write_json(json_file, [_record(choice) for choice in choices])


def _table(choices: list[planning.Choice]) -> Table:
    first = choices[0].machine
    table = Table(title=f"lanes for {'-'.join(map(str, first.layers))} on {first.device.name}")
    columns = (
        "",
        "lanes",
        "clocks",
        "us/input",
        "inputs/s",
        "stall clocks",
        "hazards",
        "DSP",
        "BRAM36",
    )
    for name in (*columns, "LUTRAM", "LUT (est.)", "fits"):
        table.add_column(name, justify="left" if name in ("", "lanes", "fits") else "right")
    for choice in choices:
        machine, needs, rates = choice.machine, choice.resources, rates_of(choice.machine)
        stalls = sum(i.clash_stall_clocks + i.hazard_stall_clocks for i in machine.issues)
        table.add_row(
            "*" if choice.best else "",
            options.tuple_text(machine.lanes),
            f"{machine.cycle_clocks:,}",
            f"{rates.input_us:.3f}",
            f"{rates.inputs_per_s:,.0f}",
            f"{stalls:,}",
            f"{sum(len(i.hazards) for i in machine.issues):,}",
            f"{needs.dsp:,}",
            f"{needs.bram36:g}",
            f"{needs.lutram:,}",
            f"{needs.lut_estimate:,}",
            "yes" if choice.fits else "no",
        )
    return table


def _record(choice: planning.Choice) -> dict[str, object]:
    rates = rates_of(choice.machine)
    return {
        "lanes": choice.machine.lanes,
        "best": choice.best,
        "fits": choice.fits,
        **asdict(rates),
        **asdict(choice.resources),
        "hazards": sum(len(issue.hazards) for issue in choice.machine.issues),
    }

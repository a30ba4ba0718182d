"""Options that several commands share, and how their texts become a machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from dnc_hw.config import machine_from
from dnc_hw.description import KINDS, describe, with_kind
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.issue import HAZARD_POLICIES
from dnc_hw.machine import Machine
from dnc_sparse.cli import options
from dnc_sparse.data import Split

MachineName = Annotated[
    str,
    typer.Argument(
        metavar="MACHINE", help="A published configuration, such as mnist-12bit, or a .toml file."
    ),
]
Lanes = Annotated[
    str | None,
    typer.Option(help="Edges per clock of each junction, such as 128,32, instead of MACHINE's."),
]
FanOut = Annotated[
    str | None, typer.Option("--fan-out", help="Edges out of each left neuron, such as 4,16.")
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="Integer and fraction bits besides the sign, such as 3,8."),
]
Pipeline = Annotated[
    int | None, typer.Option(help="Pipeline depth of the arithmetic P, in clocks.")
]
Kind = Annotated[
    str | None,
    typer.Option(
        help=f"Edges: {', '.join(KINDS)} (the release's interleaver, or clash-free kinds)."
    ),
]
Hazards = Annotated[
    str | None,
    typer.Option(
        help=f"Where a partial delta would be read too early: {', '.join(HAZARD_POLICIES)}."
    ),
]
Device = Annotated[str | None, typer.Option(help="FPGA, such as xc7a100t.")]
ClockMhz = Annotated[float | None, typer.Option("--clock-mhz", help="Clock rate in MHz.")]
PatternSeed = Annotated[int, typer.Option("--pattern-seed", min=0, help="Seed of kinds 1 to 3.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures into this file.")]
Plot = Annotated[Path | None, typer.Option(help="Draw a picture into this file.")]
Samples = Annotated[
    int | None, typer.Option(min=1, help="Take only the first samples of the training split.")
]


def described(
    machine: str,
    *,
    lanes: str | None = None,
    fan_out: str | None = None,
    number: str | None = None,
    pipeline: int | None = None,
    kind: str | None = None,
    pattern_seed: int = 0,
    **fields: Any,
) -> dict[str, Any]:
    """Return the description of a machine with the options that were given; ValueError."""
    found = describe(machine)
    if kind is not None:
        found = with_kind(found, kind, pattern_seed)
    return {
        **found,
        **options.given(
            lanes=None if lanes is None else options.numbers(lanes, "--lanes", int),
            fan_out=None if fan_out is None else options.numbers(fan_out, "--fan-out", int),
            number=None if number is None else fixed_point(number),
            pipeline_clocks=pipeline,
            **fields,
        ),
    }


def machine(name: str, **given: Any) -> Machine:
    """Build the machine that the options describe; ValueError as `machine_from`."""
    return machine_from(described(name, **given))


def fixed_point(text: str) -> FixedPoint:
    """Read a format, `integer,fraction` bits. Raises ValueError."""
    bits = options.numbers(text, "--format", int)
    if len(bits) != 2:
        raise ValueError(
            f"--format takes integer and fraction bits, such as 3,8 for 12 bits with the sign; "
            f"got {text!r}"
        )
    return FixedPoint(*bits)


def first(split: Split, samples: int | None) -> Split:
    """Return the first samples of a split; ValueError where it has fewer."""
    if samples is None:
        return split
    if samples > len(split):
        raise ValueError(f"--samples {samples} of a split of {len(split)}; take at most that")
    return Split(split.x[:samples], split.y[:samples])


def tuple_text(numbers: Iterable[int]) -> str:
    """Write numbers as the options take them."""
    return ",".join(map(str, numbers))


def size_text(bits: int) -> str:
    """Write an amount of storage with its unit."""
    return f"{bits:,} bits ({bits / 8192:.1f} KiB)"

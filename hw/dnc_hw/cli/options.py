"""Options that several commands share, and how their texts become a machine."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from dnc_hw.description import KINDS, PUBLISHED_KIND, describe, with_kind
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.issue import HAZARD_POLICIES
from dnc_sparse.cli import options, outputs
from dnc_sparse.data import Split

Command = Callable[..., None]
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
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", callback=outputs.to_file, help="Write the figures into this file."),
]
Plot = Annotated[
    Path | None, typer.Option(callback=outputs.to_picture, help="Draw a picture into this file.")
]
Samples = Annotated[
    int | None, typer.Option(min=1, help="Take only the first samples of the training split.")
]


def described(
    machine: MachineName = "mnist-12bit",
    lanes: Lanes = None,
    fan_out: FanOut = None,
    number: Format = None,
    pipeline: Pipeline = None,
    kind: Kind = None,
    pattern_seed: PatternSeed = 0,
    hazards: Hazards = None,
    device: Device = None,
    clock_mhz: ClockMhz = None,
) -> dict[str, Any]:
    """Return the description of a machine with the options that were given; ValueError."""
    if pattern_seed and kind in (None, PUBLISHED_KIND):
        raise ValueError(
            f"--pattern-seed {pattern_seed} draws edges of kind 1, 2 or 3; give --kind"
        )
    found = describe(machine)
    if kind is not None:
        found = with_kind(found, kind, pattern_seed)
    return {
        **found,
        **options.given(
            lanes=None if lanes is None else options.numbers(lanes, "--lanes", int, "128,32"),
            fan_out=None if fan_out is None else options.numbers(fan_out, "--fan-out", int, "4,16"),
            number=None if number is None else fixed_point(number),
            pipeline_clocks=pipeline,
            hazards=hazards,
            device=device,
            clock_mhz=clock_mhz,
        ),
    }


def on_machine(*without: str) -> Callable[[Command], Command]:
    """Give a command the options of `described` except some, before its own.

    The command takes the description as its first argument.
    """
    shared = [p for p in _parameters(described) if p.name not in without]

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> None:
            command(described(**{p.name: given.pop(p.name) for p in shared}), **given)

        # what typer reads: the options, not what `run` itself takes
        parameters = [*shared, *_parameters(command)[1:]]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


def fixed_point(text: str) -> FixedPoint:
    """Read a format, `integer,fraction` bits. Raises ValueError."""
    bits = options.numbers(text, "--format", int, "3,8")
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

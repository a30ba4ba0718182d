"""`dnc-sparse pattern`: describe, check and draw the pattern of one junction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dnc_sparse.cli import options, outputs
from dnc_sparse.patterns import Pattern, balance, find_clashes, nearest, neighbours, scatter
from dnc_sparse.patterns.plot import save


def pattern(
    n_in: Annotated[int, typer.Option("--n-in", min=1, help="Left neurons.")],
    n_out: Annotated[int, typer.Option("--n-out", min=1, help="Right neurons.")],
    density: Annotated[
        float | None, typer.Option(help="Edges / (n_in * n_out), rounded to a feasible one.")
    ] = None,
    fan_out: Annotated[
        int | None, typer.Option(help="Exact edges out of each left neuron.")
    ] = None,
    fan_in: Annotated[int | None, typer.Option(help="Exact edges into each right neuron.")] = None,
    family: Annotated[
        str,
        typer.Option(
            help="auto (clash_free where it exists, else regular), clash_free, cyclic, regular "
            "or random."
        ),
    ] = "auto",
    banks: options.Banks = None,
    kind: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=3,
            help="clash_free only. How addresses run: 1 permuted, 2 cyclic with a new seed per "
            "sweep, 3 cyclic with one seed.",
        ),
    ] = None,
    dither: Annotated[
        bool, typer.Option("--dither", help="clash_free only. Permute the order of banks too.")
    ] = False,
    bank_map: Annotated[
        str | None,
        typer.Option(help="clash_free only. blocked (ranges of neurons) or interleaved (papers)."),
    ] = None,
    block: options.BlockText = "1",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(callback=outputs.to_picture, help="Draw the pattern into this file."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Check degrees and clashes; exit code 1 when a check fails."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record.")] = False,
) -> None:
    """Describe, check and draw the pattern of one junction.

    Give one of --density, --fan-out and --fan-in. The scatter tells how evenly edges are spread
    over neighbouring neurons (1 is even; a low value predicts poor accuracy).

    **Examples**

    dnc-sparse pattern --n-in 800 --n-out 100 --fan-out 50

    dnc-sparse pattern --n-in 12 --n-out 8 --fan-in 3 --family clash_free --banks 3 --check
    --plot pattern.png
    """
    size = options.block(block)
    extra = options.given(banks=banks, kind=kind, bank_map=bank_map, dither=dither or None)
    drawn = nearest(
        n_in,
        n_out,
        density=density,
        fan_in=fan_in,
        fan_out=fan_out,
        family=family,
        block=size,
        seed=seed,
        **extra,
    )
    record = describe(drawn)
    console = options.console()
    if as_json:
        console.print_json(json.dumps(record))
    else:
        console.print(repr(drawn), highlight=False, soft_wrap=True)
        for name, value in record.items():
            if name != "spec":
                console.print(f"  {name:<27}{_text(value)}", highlight=False)
    if plot is not None:
        save(drawn, plot)
        if not as_json:
            console.print(f"written: {plot}", highlight=False, soft_wrap=True)
    if check and not (record["regular"] and not record["clashes"]):
        failed = [] if record["regular"] else ["degrees are not all equal"]
        if record["clashes"]:
            failed.append(f"{record['clashes']} reads of a busy bank")
        raise RuntimeError(
            f"check failed: {' and '.join(failed)}; the clash_free family has neither"
        )


def describe(drawn: Pattern) -> dict[str, Any]:
    """Return what is known of a pattern as a JSON-able record."""
    spread = balance(drawn)
    forward, backward = scatter(drawn).vector[:2]
    below, above = neighbours(drawn.n_in, drawn.n_out, drawn.density, drawn.block)
    return {
        "edges": drawn.n_edges,
        "density": drawn.density,
        "fan_in": [int(drawn.fan_ins.min()), int(drawn.fan_ins.max())],
        "fan_out": [int(drawn.fan_outs.min()), int(drawn.fan_outs.max())],
        "regular": drawn.is_regular,
        "banks": spread.banks,
        "clashes": len(find_clashes(drawn)),
        "edges_per_output_and_bank": list(spread.per_output),
        "edges_per_input_and_range": list(spread.per_input),
        "balanced": spread.exact,
        "scatter_forward": forward,
        "scatter_backward": backward,
        "feasible_densities": [below, above],
        "digest": drawn.digest,
        "spec": drawn.spec,
    }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        first, last = (_text(item) for item in value)
        return first if first == last else f"{first} .. {last}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

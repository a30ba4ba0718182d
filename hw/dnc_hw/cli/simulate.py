"""`dnc-hw simulate`: train a network on the machine, or run a trained one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from dnc_hw import figures, simulation
from dnc_hw.cli import options
from dnc_hw.cli.resources import headline
from dnc_hw.config import machine_from
from dnc_hw.contents import read_contents, write_contents
from dnc_hw.parameters import initial_parameters
from dnc_hw.saturation import Saturation
from dnc_hw.validation import WINDOW, correct_in_window
from dnc_sparse.checkpoint import write_json
from dnc_sparse.cli import outputs
from dnc_sparse.cli.options import DataDir, DataName, DataOptions, console, pairs
from dnc_sparse.data import check_classes, load

# points of the accuracy curve that are printed and written
CURVE_POINTS = 10


@options.on_machine()
def simulate(
    described: dict[str, Any],
    data: DataName = "mnist",
    samples: options.Samples = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the samples.")] = 1,
    infer: Annotated[
        bool, typer.Option("--infer", help="Only run the test split, with the weights of --load.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the initial values.")] = 0,
    own_values: Annotated[
        bool,
        typer.Option(
            "--own-values", help="An initial value per edge instead of one per row of memories."
        ),
    ] = False,
    load_file: Annotated[
        Path | None, typer.Option("--load", help="Start from the weights in this .npz.")
    ] = None,
    save_file: Annotated[
        Path | None,
        typer.Option(
            "--save",
            callback=outputs.to_file,
            help="Write the weights into this .npz at the end.",
        ),
    ] = None,
    data_dir: DataDir = None,
    data_option: DataOptions = None,
    json_file: options.JsonFile = None,
    plot: options.Plot = None,
) -> None:
    """Train a network on the machine with real data, then run the test split.

    The running accuracy counts the correct winners among the last 1000 training inputs, each judged
    before it changes the weights. Features must lie in 0..1; a first layer wider than the data is
    fed zeros.

    **Examples**

    dnc-hw simulate mnist-12bit --data mnist --samples 12544

    dnc-hw simulate mnist-12bit --kind 2 --own-values --epochs 2 --plot curve.png
    """
    if infer and load_file is None:
        raise ValueError("--infer needs --load, the weights that `dnc-hw simulate --save` wrote")
    built = machine_from(described)
    sets = load(data, data_dir, **pairs(data_option))
    check_classes(sets)
    parameters = (
        initial_parameters(built, seed, shared=not own_values)
        if load_file is None
        else read_contents(load_file, built)
    )
    shown = console()
    shown.print(repr(sets), highlight=False, soft_wrap=True)
    shown.print(headline(built), highlight=False, soft_wrap=True)
    record: dict[str, Any] = {
        "machine": headline(built),
        "layers": built.layers,
        "lanes": built.lanes,
    }
    if not infer:
        with shown.status("training"):
            report = simulation.simulate(
                built, options.first(sets.train, samples), epochs=epochs, parameters=parameters
            )
        parameters = report.parameters
        _print_training(shown, report)
        record["training"] = _training_record(report)
        if plot is not None:
            figures.save_curve(report, plot)
            shown.print(f"drawn: {plot}", highlight=False, soft_wrap=True)
    elif plot is not None:
        warnings.warn("--plot draws training; --infer has none", stacklevel=2)
    with shown.status("test split"):
        test = simulation.simulate(built, sets.test, train=False, parameters=parameters)
    shown.print(
        f"test split: {100 * test.accuracy:.2f} % of {len(test.winners):,}; {test.clocks:,} clocks",
        highlight=False,
    )
    record["test"] = {"accuracy": test.accuracy, "inputs": len(test.winners), "clocks": test.clocks}
    if save_file is not None:
        write_contents(save_file, parameters)
        shown.print(f"written: {save_file}", highlight=False, soft_wrap=True)
    if json_file is not None:
        write_json(json_file, record)


def curve(report: simulation.Report) -> list[tuple[int, float]]:
    """Return the share of correct winners in the window at points of the run, the last included."""
    correct = correct_in_window(report.correct)
    ends = np.unique(np.linspace(0, len(correct), CURVE_POINTS + 1).astype(int)[1:])
    return [(int(n), float(correct[n - 1] / min(n, WINDOW))) for n in ends if n > 0]


def _print_training(shown: Any, report: simulation.Report) -> None:
    table = Table(title="training")
    for name in ("inputs", f"correct of the last {WINDOW:,}, %"):
        table.add_column(name, justify="right")
    for inputs, share in curve(report):
        table.add_row(f"{inputs:,}", f"{100 * share:.1f}")
    shown.print(table)
    machine = report.machine
    shown.print(
        f"{report.clocks:,} clocks, {machine.cycle_clocks} per input; at {machine.clock_mhz:g} MHz "
        f"{report.time_s * 1000:,.1f} ms",
        highlight=False,
    )
    if report.padded_inputs:
        shown.print(
            f"{report.padded_inputs} of {machine.n_in} inputs are padding, always zero",
            highlight=False,
        )
    for junction, clipped in zip(report.junctions, report.saturation, strict=True):
        shown.print(f"junction {junction.junction}: {_junction_text(junction)}", highlight=False)
        shown.print(f"  clipped results: {_saturation_text(clipped)}", highlight=False)


def _junction_text(junction: simulation.JunctionReport) -> str:
    stalls = junction.clash_stall_clocks + junction.hazard_stall_clocks
    text = f"lanes used {100 * junction.lanes_use:.1f} %, {stalls} stall clocks per input, "
    text += f"{len(junction.clashes)} clashes, {len(junction.hazards)} hazards"
    if junction.hazards:
        first = junction.hazards[0]
        text += (
            f" (first: memory {first.memory}, word {first.word} in clock {first.clock}, "
            f"{first.gap_clocks} after clock {first.previous_clock})"
        )
    return text


def _saturation_text(clipped: Saturation) -> str:
    counts = [f"{n:,} {name.replace('_', ' ')}" for name, n in clipped._asdict().items()]
    return ", ".join(counts)


def _training_record(report: simulation.Report) -> dict[str, Any]:
    return {
        "inputs": len(report.winners),
        "clocks": report.clocks,
        "cycle_clocks": report.machine.cycle_clocks,
        "clock_mhz": report.machine.clock_mhz,
        "time_s": report.time_s,
        "accuracy": report.accuracy,
        "accuracy_last_1000": curve(report)[-1][1],
        "curve": curve(report),
        "padded_inputs": report.padded_inputs,
        "junctions": [
            {
                "junction": each.junction,
                "lanes_use": each.lanes_use,
                "clash_stall_clocks": each.clash_stall_clocks,
                "hazard_stall_clocks": each.hazard_stall_clocks,
                "clashes": [clash._asdict() for clash in each.clashes],
                "hazards": [hazard._asdict() for hazard in each.hazards],
                "clipped": clipped._asdict(),
            }
            for each, clipped in zip(report.junctions, report.saturation, strict=True)
        ],
    }

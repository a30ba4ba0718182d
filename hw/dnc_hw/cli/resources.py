"""`dnc-hw resources`: what a machine stores, what it takes of its FPGA, and how fast it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from dnc_hw.cli import options
from dnc_hw.config import machine_from
from dnc_hw.machine import Machine
from dnc_hw.rates import energy_of, rates_of
from dnc_hw.resources import Resources, resources_of
from dnc_hw.storage import stored_items, total_bits, total_words
from dnc_sparse.checkpoint import write_json
from dnc_sparse.cli.options import console

# what the table calls a resource, and the device's count of it
ROWS = {
    "dsp": ("DSP", "dsp"),
    "bram36": ("BRAM36", "bram36"),
    "lutram": ("LUTRAM", "lutram"),
    "lut_estimate": ("LUT (estimate)", "lut"),
}


@options.on_machine()
def resources(
    described: dict[str, Any],
    json_file: options.JsonFile = None,
) -> None:
    """Show the memories of a machine, what it takes of its FPGA, whether it fits, and its rates.

    DSP, BRAM and LUTRAM follow formulas fitted to published reports; LUT and energy are estimates.
    """
    built = machine_from(described)
    shown = console()
    shown.print(headline(built), highlight=False, soft_wrap=True)
    shown.print(_storage_table(built))
    needs = resources_of(built)
    shown.print(_device_table(built, needs))
    shown.print(fit_text(built, needs), highlight=False, soft_wrap=True)
    rates, energy = rates_of(built), energy_of(built)
    shown.print(
        f"{rates.cycle_clocks} clocks at {rates.clock_mhz:g} MHz: {rates.input_us:.3f} us per "
        f"input, {rates.inputs_per_s:,.0f} inputs/s, {rates.input_mb_per_s:.0f} MB/s of "
        f"pixels; latency {rates.inference_latency_us:.2f} us to a winner, "
        f"{rates.training_latency_us:.2f} us to the last update",
        highlight=False,
        soft_wrap=True,
    )
    shown.print(
        f"energy {energy.input_nj:,.0f} nJ per training input (estimate, uncalibrated)",
        highlight=False,
    )
    if json_file is not None:
        write_json(json_file, record(built))


def headline(machine: Machine) -> str:
    """Return a line that says which network and machine this is."""
    edges = sum(order.n_edges for order in machine.orders)
    dense = sum(order.n_in * order.n_out for order in machine.orders)
    return (
        f"{'-'.join(map(str, machine.layers))}, {edges} edges ({100 * edges / dense:.3g} % of "
        f"dense), lanes {options.tuple_text(machine.lanes)}, {machine.number.width_bits} bits "
        f"{machine.number}, P = {machine.pipeline_clocks}, hazards: {machine.hazards}"
    )


def fit_text(machine: Machine, needs: Resources) -> str:
    """Return a line that says whether the machine fits its device, and what is missing."""
    lacking = needs.shortage(machine.device)
    if not lacking:
        return f"fits {machine.device.name} (LUT by estimate)"
    parts = ", ".join(f"{count:,g} {ROWS[name][0]}" for name, count in lacking.items())
    return f"does not fit {machine.device.name}: {parts} too many"


def record(machine: Machine) -> dict[str, Any]:
    """Return everything that the command shows as a JSON-able record; units end the names."""
    needs = resources_of(machine)
    return {
        "layers": machine.layers,
        "lanes": machine.lanes,
        "format": [machine.number.integer_bits, machine.number.fraction_bits],
        "pipeline_clocks": machine.pipeline_clocks,
        "storage": [
            {**asdict(item), "words": item.words, "bits": item.bits}
            for item in stored_items(machine)
        ],
        "storage_words": total_words(machine),
        "storage_bits": total_bits(machine),
        "resources": asdict(needs),
        "device": asdict(machine.device),
        "shortage": needs.shortage(machine.device),
        "rates": asdict(rates_of(machine)),
        "energy_estimate": asdict(energy_of(machine)),
    }


def _storage_table(machine: Machine) -> Table:
    table = Table(title="storage")
    for name in ("item", "of", "banks", "memories", "depth, words", "width, bits", "words"):
        table.add_column(name, justify="left" if name in ("item", "of") else "right")
    for item in stored_items(machine):
        kind = "junction" if item.name in ("weights", "biases") else "layer"
        sizes = (item.banks, item.memories, item.depth_words, item.width_bits, item.words)
        table.add_row(item.name, f"{kind} {item.place}", *(f"{size:,}" for size in sizes))
    table.caption = f"{total_words(machine):,} words, {options.size_text(total_bits(machine))}"
    return table


def _device_table(machine: Machine, needs: Resources) -> Table:
    table = Table(title=f"resources of {machine.device.name}")
    for name in ("resource", "needed", "available", "share"):
        table.add_column(name, justify="left" if name == "resource" else "right")
    for name, (shown, offered) in ROWS.items():
        need, has = getattr(needs, name), getattr(machine.device, offered)
        share = f"{100 * need / has:.1f} %" if has else "-"
        table.add_row(shown, f"{need:,}", f"{has:,}", share)
    return table

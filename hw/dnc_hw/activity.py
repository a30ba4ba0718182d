"""Memory and port activity of junction cycles as a waveform (VCD, IEEE 1364) and as a table (CSV).

| name  | meaning                                                            |
|-------|--------------------------------------------------------------------|
| bank  | memories that work side by side; a module in the waveform          |
| port  | one signal per kind of access: high in the clocks that have it     |
| step  | which group of edges (or of inputs) the access serves              |
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from dnc_hw.events import Access, Event, MemoryKind
from dnc_hw.machine import Machine

Events = NDArray[np.int32]
Port = tuple[int, int, int, int]
PICOSECONDS_PER_US = 1_000_000
# printable characters that a VCD identifier may have
FIRST_CODE, CODES = 33, 94


def as_csv(events: Events) -> str:
    """Return the accesses as a table with a header, one line each, names spelt out."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Event._fields)
    for row in events.tolist():
        event = Event(*row)
        names = {"memory": MemoryKind(event.memory).name, "access": Access(event.access).name}
        table.writerow((event._asdict() | names).values())
    return text.getvalue()


def as_vcd(machine: Machine, events: Events, first_cycle: int, cycles: int) -> str:
    """Return the accesses of junction cycles as a waveform at the machine's clock.

    Beside the banks there are the number of the junction cycle, the clock in it, and for each
    junction a signal that is high while a partial delta is read too early.
    """
    ports = sorted({_port(row) for row in events.tolist()})
    width = max(int(events[:, -1].max(initial=0)).bit_length(), 1)
    counter_width = max(machine.cycle_clocks, first_cycle + cycles).bit_length()
    hazards = [{h.clock for h in issue.hazards} for issue in machine.issues]
    codes = (_identifier(n) for n in range(2 + len(hazards) + 2 * len(ports)))
    cycle_code, clock_code = next(codes), next(codes)
    hazard_codes = [next(codes) for _ in hazards]
    port_codes = {port: (next(codes), next(codes)) for port in ports}

    lines = [
        f"$comment dnc-hw, clock {machine.clock_mhz:g} MHz $end",
        "$timescale 1 ps $end",
        "$scope module machine $end",
        f"$var integer {counter_width} {cycle_code} junction_cycle $end",
        f"$var integer {counter_width} {clock_code} clock $end",
    ]
    for i, code in enumerate(hazard_codes, 1):
        lines.append(f"$var wire 1 {code} hazard_junction_{i} $end")
    for bank, own in groupby(ports, key=lambda port: port[:3]):
        lines.append(f"$scope module {_bank_name(*bank)} $end")
        for port in own:
            name = Access(port[3]).name
            active, step = port_codes[port]
            lines.append(f"$var wire 1 {active} {name} $end")
            lines.append(f"$var wire {width} {step} {name}_step [{width - 1}:0] $end")
        lines.append("$upscope $end")
    lines += ["$upscope $end", "$enddefinitions $end"]

    by_clock: dict[tuple[int, int], list[list[int]]] = {}
    for row in events.tolist():
        by_clock.setdefault((row[0], row[1]), []).append(row)
    held: dict[str, str] = {}
    for number in range(cycles * machine.cycle_clocks + 1):
        cycle, clock = divmod(number, machine.cycle_clocks)
        cycle += first_cycle
        now = {cycle_code: f"b{cycle:b} ", clock_code: f"b{clock:b} "}
        now |= dict.fromkeys(hazard_codes, "0")
        now |= {active: "0" for active, _ in port_codes.values()}
        if cycle < first_cycle + cycles:
            for code, clocks in zip(hazard_codes, hazards, strict=True):
                now[code] = str(int(clock in clocks))
            for row in by_clock.get((cycle, clock), []):
                active, step = port_codes[_port(row)]
                now |= {active: "1", step: f"b{row[-1]:b} "}
        changed = {code: value for code, value in now.items() if held.get(code) != value}
        if changed:
            lines.append(f"#{_start_ps(machine, number)}")
            lines += [value + code for code, value in changed.items()]
        held |= changed
    return "\n".join(lines) + "\n"


def _port(row: list[int]) -> Port:
    event = Event(*row)
    return event.memory, event.place, event.bank, event.access


def _start_ps(machine: Machine, clock: int) -> int:
    return round(clock * PICOSECONDS_PER_US / machine.clock_mhz)


def _bank_name(memory: int, place: int, bank: int) -> str:
    kind = MemoryKind(memory)
    where = "junction" if kind in (MemoryKind.weight, MemoryKind.bias) else "layer"
    return f"{kind.name}_{where}_{place}_bank_{bank}"


def _identifier(number: int) -> str:
    """Return the n-th short name for a signal."""
    return "".join(_digits(number))


def _digits(number: int) -> Iterator[str]:
    while True:
        yield chr(FIRST_CODE + number % CODES)
        number = number // CODES - 1
        if number < 0:
            return

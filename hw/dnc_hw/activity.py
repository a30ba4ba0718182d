"""Memory and port activity of junction cycles as a waveform (VCD, IEEE 1364) and as a table (CSV).

| name  | meaning                                                            |
|-------|--------------------------------------------------------------------|
| bank  | memories that work side by side; a module in the waveform          |
| port  | one signal per kind of access: high in the clocks that have it     |
| step  | which group of edges (or of inputs) the access serves              |
| lane  | one memory of a bank; its signal is the word that the port is at   |
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from dnc_hw.events import Access, Event, Logged, MemoryKind
from dnc_hw.machine import Machine
from dnc_hw.model import Model
from dnc_hw.parameters import initial_parameters
from dnc_hw.trace import NO_LABEL

Port = tuple[int, int, int, int]
PICOSECONDS_PER_US = 1_000_000
# printable characters that a VCD identifier may have
FIRST_CODE, CODES = 33, 94


def accesses(machine: Machine, first_cycle: int, cycles: int) -> list[Logged]:
    """Return the accesses of junction cycles in the order of their events.

    They do not depend on what the memories hold.
    """
    model = Model(machine, initial_parameters(machine), log_events=True)
    model.cycle = first_cycle
    nothing = np.zeros((cycles, machine.n_in), dtype=np.uint8)
    model.run(nothing, np.full(cycles, NO_LABEL), np.zeros(cycles, dtype=np.int64))
    return sorted(model.log, key=lambda each: each.event)


def as_csv(log: Sequence[Logged], *, addresses: bool = False) -> str:
    """Return the accesses as a table with a header, one line each, names spelt out.

    With `addresses`, a column lists the accessed memories of the bank as lane:word.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Event._fields + ("words",) * addresses)
    for event, lane, word in log:
        names = {"memory": MemoryKind(event.memory).name, "access": Access(event.access).name}
        row = [*(event._asdict() | names).values()]
        if addresses:
            row.append(" ".join(f"{m}:{w}" for m, w in zip(lane, word, strict=True)))
        table.writerow(row)
    return text.getvalue()


def as_vcd(
    machine: Machine,
    log: Sequence[Logged],
    first_cycle: int,
    cycles: int,
    *,
    addresses: bool = False,
) -> str:
    """Return the accesses of junction cycles as a waveform at the machine's clock.

    Beside the banks there are the number of the junction cycle, the clock in it, and for each
    junction a signal that is high while a partial delta is read too early. With `addresses`, every
    port has a signal per lane, the word that it is at, undefined in clocks without access.
    """
    ports = sorted({_port(event) for event, _, _ in log})
    lanes = sorted({(_port(e), int(m)) for e, lane, _ in log for m in lane}) if addresses else []
    width = max(max((event.step for event, _, _ in log), default=0).bit_length(), 1)
    address_width = max(max((int(w.max()) for _, _, w in log), default=0).bit_length(), 1)
    # viewers take integers for signed
    counter_width = 1 + max(machine.cycle_clocks, first_cycle + cycles).bit_length()
    hazards = [{h.clock for h in issue.hazards} for issue in machine.issues]
    codes = (_identifier(n) for n in range(2 + len(hazards) + 2 * len(ports) + len(lanes)))
    cycle_code, clock_code = next(codes), next(codes)
    hazard_codes = [next(codes) for _ in hazards]
    port_codes = {port: (next(codes), next(codes)) for port in ports}
    lane_codes = {lane: next(codes) for lane in lanes}

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
            for place, code in lane_codes.items():
                if place[0] == port:
                    vector = f"{name}_lane_{place[1]} [{address_width - 1}:0]"
                    lines.append(f"$var wire {address_width} {code} {vector} $end")
        lines.append("$upscope $end")
    lines += ["$upscope $end", "$enddefinitions $end"]

    by_clock: dict[tuple[int, int], list[Logged]] = {}
    for each in log:
        by_clock.setdefault((each.event.cycle, each.event.clock), []).append(each)
    held: dict[str, str] = {}
    for number in range(cycles * machine.cycle_clocks + 1):
        cycle, clock = divmod(number, machine.cycle_clocks)
        cycle += first_cycle
        now = {cycle_code: f"b{cycle:b} ", clock_code: f"b{clock:b} "}
        now |= dict.fromkeys(hazard_codes, "0")
        now |= {active: "0" for active, _ in port_codes.values()}
        now |= dict.fromkeys(lane_codes.values(), "bx ")
        if cycle < first_cycle + cycles:
            for code, clocks in zip(hazard_codes, hazards, strict=True):
                now[code] = str(int(clock in clocks))
            for event, lane, word in by_clock.get((cycle, clock), []):
                port = _port(event)
                active, step = port_codes[port]
                now |= {active: "1", step: f"b{event.step:b} "}
                if addresses:
                    at = zip(lane.tolist(), word.tolist(), strict=True)
                    now |= {lane_codes[port, m]: f"b{w:b} " for m, w in at}
        changed = {code: value for code, value in now.items() if held.get(code) != value}
        if changed:
            lines.append(f"#{_start_ps(machine, number)}")
            lines += [value + code for code, value in changed.items()]
        held |= changed
    return "\n".join(lines) + "\n"


def _port(event: Event) -> Port:
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

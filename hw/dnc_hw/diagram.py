"""The pipeline as text: which input every unit works on in each junction cycle."""

from __future__ import annotations

from dnc_hw import schedule

Unit = tuple[str, int]


def units(junctions: int) -> list[Unit]:
    """List the operations and junctions that work at once, in the order of an input's way."""
    forward = [("FF", i) for i in range(1, junctions + 1)]
    backward = [
        (operation, i)
        for i in range(junctions, 0, -1)
        for operation in (("BP", "UP") if i > 1 else ("UP",))
    ]
    return [("load", 0), *forward, *backward]


def unit_name(unit: Unit) -> str:
    """Return the name of a unit; the load has no junction."""
    operation, junction = unit
    return f"{operation} {junction}" if junction else operation


def pipeline_text(junctions: int, cycles: int) -> str:
    """Draw the first junction cycles, a column each and a row per unit; a dot is a unit at rest."""
    working = {
        (task.operation, task.junction, cycle): task.input
        for cycle in range(cycles)
        for task in schedule.tasks(junctions, cycle)
    }
    width = len(str(cycles)) + 1
    lines = ["cycle " + "".join(f"{cycle:{width}}" for cycle in range(cycles))]
    for unit in units(junctions):
        cells = (working.get((*unit, cycle)) for cycle in range(cycles))
        row = "".join(f"{'.' if n is None else n:>{width}}" for n in cells)
        lines.append(f"{unit_name(unit):<6}{row}")
    return "\n".join(lines)

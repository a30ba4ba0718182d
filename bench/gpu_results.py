"""What the calls of `bench/gpu.py` found so far, as Markdown: `python bench/gpu_results.py FOLDER`.

Read from their files `check.json` and `measure.json`: how each part ended, its rows and its record.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from gpu_parts import CALLS

BLOCKS, INVERSE_DENSITIES = (128, 64, 32, 16), (2, 4, 8, 16)
Row = dict[str, Any]
GOOD, MOST_KINDS = ("right", "clean"), 10


class Calls:
    """The parts of all calls, those of the later call first where both have one."""

    def __init__(self, out: Path) -> None:
        """Read the files of a folder; one that is missing holds nothing."""
        self.parts: dict[str, dict[str, Any]] = {}
        for call in CALLS:
            file = out / f"{call}.json"
            self.parts |= json.loads(file.read_text()) if file.exists() else {}

    def rows(self, part: str) -> list[Row]:
        """Return the rows of a part; none if it did not run."""
        rows: list[Row] = self.parts.get(part, {}).get("rows", [])
        return rows

    def record(self, part: str) -> dict[str, Any]:
        """Return the record of a part; an empty one if it left none."""
        return self.parts.get(part, {}).get("record") or {}


def results(out: Path) -> str:
    """Return what a folder holds as Markdown, the steps against dense ones first."""
    calls = Calls(out)
    sections = [
        [f"# `bench/gpu.py`, {date.today().isoformat()}", "", *_machine(calls)],
        _steps(calls),
        _endings(calls),
        _verdicts(calls),
        _roofs(calls),
        _times(calls),
        _measures(calls),
        _model(calls),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _machine(calls: Calls) -> list[str]:
    rows = calls.rows("environment")
    return [", ".join(f"{name} {value}" for row in rows for name, value in row.items())]


def _section(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return a titled table; nothing without rows."""
    lines = [heads, ["---"] * len(heads), *rows]
    table = [f"| {' | '.join(map(_cell, line))} |" for line in lines]
    return [f"## {title}", "", *table] if len(table) > 2 else []


def _cell(value: object) -> str:
    return "" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)


def _steps(calls: Calls) -> list[str]:
    """A training step of 4096 -> 4096 with 16,384 tokens in bfloat16 against cuBLAS's."""
    roofs = {row["roof"]: row["us"] for row in calls.rows("ceilings")}
    dense = _sum(roofs.get(name) for name in ("forward", "grad_input", "grad_weight"))
    measured = {
        (measure["row"], measure["detail"]): measure
        for measure in calls.record("suite").get("measures", [])
    }

    def rows() -> Iterator[Sequence[object]]:
        for block in BLOCKS:
            for n in INVERSE_DENSITIES:
                cuda = _step(calls.rows("first contact, timed"), block, n)
                triton = _step(calls.rows("triton"), block, n)
                fastest = min((time for time in (cuda, triton) if time is not None), default=None)
                ratio = dense / fastest if dense and fastest else None
                layer = measured.get((f"dense / ours, step, block {block}", f"1/{n}"), {})
                seconds = layer.get("against_seconds")
                mine = seconds * 1e6 if seconds else None
                yield (
                    *(block, f"1/{n}", dense, cuda, triton, ratio),
                    *(mine, layer.get("value"), layer.get("goal")),
                )

    heads = ("block", "density", "dense us", "CUDA us", "Triton us", "times dense")
    title = "A step of 4096 -> 4096, 16,384 tokens, bfloat16"
    return _section(title, (*heads, "layer us", "layer, times dense", "goal"), rows())


def _step(rows: Sequence[Row], block: int, inverse_density: int) -> float | None:
    """Return forward and the faster way to all gradients; None where one was not timed right."""
    times = {
        row["function"]: row.get("us")
        for row in rows
        if row["verdict"] == "right"
        and (row["block"], row["inverse_density"]) == (block, inverse_density)
    }
    apart = _sum(times.get(name) for name in ("grad_input", "grad_weight"))
    backward = [time for time in (times.get("backward"), apart) if time is not None]
    return _sum((times.get("forward"), min(backward, default=None)))


def _sum(times: Iterable[float | None]) -> float | None:
    total = 0.0
    for time in times:
        if time is None:
            return None
        total += time
    return total


def _endings(calls: Calls) -> list[str]:
    rows = [
        (name, part["status"], part["seconds"], part["limit_s"], part["commit"])
        for name, part in calls.parts.items()
    ]
    return _section("Parts", ("part", "ended", "seconds", "at most", "commit"), rows)


def _verdicts(calls: Calls) -> list[str]:
    """What is right is counted; of what is not the first case of each kind is told."""
    lines: list[str] = []
    for name in calls.parts:
        rows = [row for row in calls.rows(name) if "verdict" in row]
        kinds: dict[str, list[str]] = {}
        for row in rows:
            kind = f"{row['verdict']} {row.get('detail', row.get('errors', ''))}"
            kinds.setdefault("" if row["verdict"] in GOOD else kind, []).append(row["case"])
        good = len(kinds.pop("", ()))
        if rows:
            lines.append(f"* {name}: {good} of {len(rows)} right")
        for kind, cases in list(kinds.items())[:MOST_KINDS]:
            more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
            lines.append(f"  * {cases[0]}{more}: {kind}")
        if len(kinds) > MOST_KINDS:
            lines.append(f"  * {len(kinds) - MOST_KINDS} more kinds are in the JSON file")
    return lines and ["## Right or wrong", "", *lines]


def _roofs(calls: Calls) -> list[str]:
    rows = [
        (row["roof"], row["us"], row.get("tflops"), row.get("gb_per_second"))
        for row in calls.rows("ceilings")
    ]
    return _section("Roofs", ("roof", "us", "TFLOP/s", "GB/s"), rows)


def _times(calls: Calls) -> list[str]:
    rows = [
        (
            *(name, row["function"], row["block"], f"1/{row['inverse_density']}"),
            *(float(row["us"]), float(row["tflops"]), row["verdict"]),
        )
        for name in ("first contact, timed", "triton")
        for row in calls.rows(name)
        if "us" in row
    ]
    heads = ("part", "function", "block", "density", "us", "TFLOP/s", "verdict")
    return _section("Kernels", heads, rows)


def _measures(calls: Calls) -> list[str]:
    rows: list[Sequence[object]] = []
    for part in calls.parts:
        for measure in calls.record(part).get("measures", []):
            value, unit = measure["value"], 1e6
            times = [
                measure[name] * unit if value is not None else None
                for name in ("against_seconds", "seconds")
            ]
            shown = measure["unavailable"] if value is None else value
            rows.append((measure["row"], measure["detail"], measure["goal"], shown, *times))
    heads = ("measure", "of", "goal", "value", "us", "us of the other")
    return _section("Measures", heads, rows)


def _model(calls: Calls) -> list[str]:
    models = calls.record("language model").get("variants", {})
    speeds = [model["tokens_per_second"] for model in models.values()]
    rows = [
        (
            *(name, f"{model['parameters']:,}", f"{model['tokens_per_second']:,.0f}"),
            *(model["tokens_per_second"] / speeds[0], model["losses"][-1]),
            model.get("validation_loss"),
        )
        for name, model in models.items()
    ]
    heads = ("model", "parameters", "tokens/s", "times the first", "last loss", "validation loss")
    return _section("Language model", heads, rows)


def write_results(out: Path) -> str:
    """Write `results.md` into a folder, and return it."""
    text = results(out)
    write(out / "results.md", text)
    return text


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


if __name__ == "__main__":
    sys.stdout.write(write_results(Path(sys.argv[1])))

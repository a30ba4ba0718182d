"""Everything that needs a GPU, in one command: build, tests, sanitizer, benchmarks, a model.

    python bench/gpu.py --out runs/gpu              (or `make gpu`)

Each part runs in a process of its own with a time limit and leaves what it said in `gpu.log`. A
part that passed is not repeated when the command is given again with the same folder and commit, so
a machine that is lent for minutes can be used in pieces. `gpu.json` tells how each part ended,
`suite.json` and `model.json` hold the figures, `results.md` a table of them. Parts also run alone:
`--parts suite,model`. Python packages that the machine lacks are taken from a folder of wheels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).resolve().parents[1]
TAIL = 25


@dataclass(frozen=True)
class Part:
    """A command, in words for a process, and the seconds it may take."""

    name: str
    command: Sequence[str]
    limit_s: int


@dataclass(frozen=True)
class Ending:
    """How a part ended on a commit: "passed", "failed" or "took too long"."""

    status: str
    seconds: float
    commit: str


def parts(out: Path) -> list[Part]:
    """Return everything there is to do, in order."""
    python = sys.executable
    folder = ROOT / "tests/sparse"
    named = sorted(path for word in ("triton", "cuda", "gpu") for path in folder.glob(f"*{word}*"))
    # a kernel that waits for ever stops a part of its own
    blocks = str(folder / "test_cuda_blocks.py")
    on_device = [str(path) for path in named if path.name.startswith("test_")]
    on_device.remove(blocks)
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    memcheck = ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9"]
    suite = [python, "-m", "dnc_sparse", "bench", "--suite", "gpu"]
    return [
        Part("card", ["nvidia-smi"], 30),
        Part(
            "build",
            [python, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "-e", str(ROOT)],
            300,
        ),
        Part("info", [python, "-m", "dnc_sparse", "info"], 60),
        Part("device tests", [*pytest, *on_device], 240),
        Part("block kernels", [*pytest, blocks], 120),
        Part(
            "sanitizer",
            [*memcheck, *pytest, "-k", "gpu and batch_size", str(folder / "test_cuda.py")],
            150,
        ),
        Part("compile", [python, str(ROOT / "bench/gpu_compile.py")], 240),
        Part("suite", [*suite, "--json", str(out / "suite.json"), "--plot", str(out)], 420),
        Part(
            "model",
            [python, str(ROOT / "examples/language_model.py"), "--out", str(out / "model.json")],
            240,
        ),
        Part("all tests", [*pytest, "-n", str(min(12, os.cpu_count() or 1)), "tests"], 300),
    ]


def run(part: Part, log: Path, commit: str) -> Ending:
    """Run a part, appending what it says to the log."""
    started = time.perf_counter()
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with log.open("a") as file:
        file.write(f"\n=== {part.name}: {' '.join(part.command)}\n")
        file.flush()
        try:
            done = subprocess.run(
                part.command,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=part.limit_s,
                cwd=ROOT,
                env=environment,
                check=False,
            )
            status = "passed" if done.returncode == 0 else "failed"
        except FileNotFoundError as error:
            file.write(f"{error}\n")
            status = "failed"
        except subprocess.TimeoutExpired:
            status = "took too long"
    return Ending(status, round(time.perf_counter() - started, 1), commit)


def main(
    out: Annotated[Path, typer.Option(help="Folder for results; also resumes from it.")] = Path(
        "runs/gpu"
    ),
    only: Annotated[str, typer.Option("--parts", help="Only these parts, separated by ,")] = "",
    wheels: Annotated[
        Path | None, typer.Option(help="Folder of wheels to install first, without an index.")
    ] = None,
    budget_s: Annotated[int, typer.Option(help="No part starts after so many seconds.")] = 480,
) -> None:
    """Build, test and measure on the GPU of this machine."""
    os.chdir(ROOT)
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    state, log = out / "gpu.json", out / "gpu.log"
    known: dict[str, Any] = json.loads(state.read_text()) if state.exists() else {}
    wanted = parts(out)
    names = [part.name for part in wanted]
    asked = [name.strip() for name in only.split(",")] if only else names
    unknown = [name for name in asked if name not in names]
    if unknown:
        raise typer.BadParameter(f"unknown part {unknown[0]!r}; known: {', '.join(names)}")
    if wheels is not None:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
        subprocess.run([*pip, *map(str, sorted(wheels.glob("*.whl")))], check=True)
    # also where nvidia-smi cannot list the card
    os.environ.setdefault("CMAKE_ARGS", "-DDNC_CUDA=NVCC")
    commit = _git("rev-parse", "--short", "HEAD")
    started = time.perf_counter()
    for part in wanted:
        before = known.get(part.name, {})
        if part.name not in asked or (before.get("status"), before.get("commit")) == (
            "passed",
            commit,
        ):
            continue
        if time.perf_counter() - started > budget_s:
            typer.echo(f"{part.name}: not started, the time is up; give the command again")
            continue
        proven = known.get("block kernels", {}).get("status") == "passed"
        if part.name == "suite" and proven:
            part = replace(part, command=[*part.command, "--block-kernels"])
        ending = run(part, log, commit)
        known[part.name] = asdict(ending)
        _write(state, json.dumps(known, indent=1) + "\n")
        typer.echo(f"{part.name}: {ending.status} after {ending.seconds:.0f} s")
        if ending.status != "passed":
            typer.echo("\n".join(log.read_text().splitlines()[-TAIL:]))
    _write(out / "results.md", results(out, known))
    typer.echo((out / "results.md").read_text())
    raise typer.Exit(code=any(ending["status"] != "passed" for ending in known.values()))


def results(out: Path, known: dict[str, Any]) -> str:
    """Return what is known so far as Markdown."""
    lines = [f"# `bench/gpu.py`, {date.today().isoformat()}", ""]
    suite, model = (_read(out / name) for name in ("suite.json", "model.json"))
    if suite:
        machine = suite["machine"]
        lines += [
            f"{machine.get('gpu')}, CUDA {machine.get('cuda')}, torch {machine['torch']}, "
            f"Python {machine['python']}, commit {machine['commit']}.",
            "",
            "| measure | of | goal | value | us | us of the other |",
            "|---|---|---|---|---|---|",
            *(_row(measure) for measure in suite["measures"]),
            "",
        ]
    if model:
        dense, sparse = model["dense"], model["sparse"]
        ratio = sparse["tokens_per_second"] / dense["tokens_per_second"]
        lines += [
            "| model | parameters | tokens/s | last loss |",
            "|---|---|---|---|",
            *(
                f"| {kind} | {own['parameters']:,} | {own['tokens_per_second']:,.0f} "
                f"| {own['losses'][-1]:.3f} |"
                for kind, own in (("dense", dense), ("sparse", sparse))
            ),
            "",
            f"Sparse trains {ratio:.2f} times as fast.",
            "",
        ]
    lines += ["| part | ended | seconds | commit |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {own['status']} | {own['seconds']} | {own['commit']} |"
        for name, own in known.items()
    ]
    return "\n".join(lines) + "\n"


def _row(measure: dict[str, Any]) -> str:
    value, ours, theirs = (measure[name] for name in ("value", "against_seconds", "seconds"))
    if value is None:
        cells = (measure["unavailable"], "", "")
    else:
        cells = (f"{value:.3f}", f"{ours * 1e6:,.1f}", f"{theirs * 1e6:,.1f}")
    return f"| {measure['row']} | {measure['detail']} | {measure['goal']} | {' | '.join(cells)} |"


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    typer.run(main)

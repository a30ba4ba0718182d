"""A GPU's first fifteen minutes, in two calls: is everything right, and how fast is it?

    python bench/gpu_prepare.py                          # before, without a GPU
    python bench/gpu.py --call check --out runs/gpu      # 250 s at most
    python bench/gpu.py --call measure --out runs/gpu    # 410 s at most

Each part runs in a process group of its own, which is killed at its deadline; after that the next
one runs, unless the killed one still has the device. `CALL.json`, written after every part, holds
how each one ended and its results, `CALL.log` what it said, `results.md` tables of both calls. A
part that passed is not repeated when the command is given again with the same folder and commit.
Neither git nor a package index is needed. `--dry-run` does the same parts without a GPU.
docs/benchmarks.md says what to type when.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from gpu_dry_run import set_up
from gpu_parts import Call, Places, deadlines, parts
from gpu_prepare import CUDA_BIN, ROOT, SITE, commit
from gpu_process import (
    PASSED,
    STUCK,
    Ending,
    Part,
    Running,
    StuckDeviceError,
    check_device_is_free,
    occupants,
)
from gpu_results import write, write_results

TAIL = 25


class Session:
    """One call: its parts, in order, and what is known of them."""

    def __init__(self, call: str, out: Path, environment: dict[str, str], at: str) -> None:
        self.file, self.log = out / f"{call}.json", out / f"{call}.log"
        self.out, self.environment, self.commit = out, environment, at
        self.endings: dict[str, Any] = (
            json.loads(self.file.read_text()) if self.file.exists() else {}
        )
        self.background: dict[str, Running] = {}
        self.occupants = occupants()

    def has_passed(self, part: str) -> bool:
        """Whether a part has passed on this very commit."""
        ending = self.endings.get(part, {})
        return (ending.get("status"), ending.get("commit")) == (PASSED, self.commit)

    def run(self, part: Part, limit_s: float) -> None:
        """Run a part, or start it if it is one for the background.

        Raises StuckDeviceError when something that was killed still has the device.
        """
        began = time.perf_counter()
        if part.after in self.background:
            self._finish(self.background.pop(part.after), limit_s - part.limit_s)
        if all(map(self.has_passed, part.proven)):
            part = replace(part, command=[*part.command, *part.bold])
        if part.background:
            self.background[part.name] = self._start(part)
        else:
            self._finish(self._start(part), limit_s - (time.perf_counter() - began))

    def stop(self) -> None:
        """Kill what runs in the background."""
        for running in self.background.values():
            self._keep(running, running.end(0, self.commit))
        self.background.clear()

    def _start(self, part: Part) -> Running:
        file = self.log.with_name(f"{part.name.replace(' ', '-').replace(',', '')}.log")
        return Running(part, file, ROOT, self.environment)

    def _finish(self, running: Running, limit_s: float) -> None:
        ending = running.end(limit_s, self.commit)
        self._keep(running, ending)
        if ending.status == STUCK:
            raise StuckDeviceError(f"{running.part.name} {STUCK}")
        if ending.status != PASSED:
            check_device_is_free(self.occupants)

    def _keep(self, running: Running, ending: Ending) -> None:
        name, said = running.part.name, running.log.read_text(errors="replace")
        with self.log.open("a") as file:
            file.write(said)
        running.log.unlink()
        # so that parts stand in the order in which they ran last
        self.endings.pop(name, None)
        self.endings[name] = asdict(ending)
        write(self.file, json.dumps(self.endings, indent=1) + "\n")
        typer.echo(f"{name}: {ending.status}, {ending.seconds:.0f} of {ending.limit_s:.0f} s")
        if ending.status != PASSED:
            typer.echo("\n".join(said.splitlines()[-TAIL:]))


def perform(session: Session, chosen: list[Part], budget_s: float | None) -> None:
    """Run the parts one after the other, each until its deadline at most."""
    began = time.perf_counter()
    ends = deadlines(chosen)
    most = ends[chosen[-1].name]
    most = most if budget_s is None else min(most, budget_s)
    typer.echo(f"{len(chosen)} parts, {most:.0f} s at most")
    try:
        for part in chosen:
            left = min(ends[part.name], most) - (time.perf_counter() - began)
            # a part in the background shares the time of the others
            if left <= 0 and not part.background:
                typer.echo(f"{part.name}: not started, the time is up; give the command again")
                continue
            session.run(part, left)
    except StuckDeviceError as error:
        typer.echo(f"stopped, for nothing after this would be timed right: {error}")
    finally:
        session.stop()
    typer.echo(f"{time.perf_counter() - began:.0f} s of {most:.0f} s")


def surroundings(stand_ins: Path | None) -> dict[str, str]:
    """Return the environment of parts: this package, prepared ones and nvcc are at hand.

    A dry run has a folder of stand-ins for libraries and programs.
    """
    changes = set_up(stand_ins) if stand_ins else {}
    first, last = changes.pop("PATH_FIRST", ""), CUDA_BIN
    path = [first, os.environ.get("PATH", ""), last]
    python = [str(ROOT), str(SITE), os.environ.get("PYTHONPATH", "")]
    return (
        os.environ
        | {"PYTHONUNBUFFERED": "1", "PATH": ":".join(filter(None, path))}
        | {"PYTHONPATH": ":".join(filter(None, python))}
        | changes
    )


def main(
    call: Annotated[Call, typer.Option(help="First check, then measure.")] = "check",
    out: Annotated[Path, typer.Option(help="Folder for results; also resumes from it.")] = Path(
        "runs/gpu"
    ),
    only: Annotated[str, typer.Option("--parts", help="Only these parts, separated by ;")] = "",
    budget_s: Annotated[
        float | None, typer.Option(help="End after so many seconds, if sooner.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Without a GPU, all small.")] = False,
) -> None:
    """Check or measure everything that needs a GPU."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    stand_ins = out / "stand-ins" if dry_run else None
    every = parts(call, Places(out, stand_ins) if stand_ins else Places(out), dry_run)
    names = [part.name for part in every]
    asked = [name.strip() for name in only.split(";")] if only else names
    unknown = [name for name in asked if name not in names]
    if unknown:
        raise typer.BadParameter(f"unknown part {unknown[0]!r}; known: {'; '.join(names)}")
    # so that whoever ends this ends its parts
    signal.signal(signal.SIGTERM, lambda number, frame: exit(128 + number))
    environment = surroundings(stand_ins)
    os.environ["PATH"] = environment["PATH"]
    session = Session(call, out, environment, commit())
    # a tree with changes is another one each time
    kept = () if session.commit == "unknown" or session.commit.endswith("+") else session.endings
    chosen = [
        part
        for part in every
        if part.name in asked and not (part.name in kept and session.has_passed(part.name))
    ]
    try:
        if chosen:
            perform(session, chosen, budget_s)
    finally:
        typer.echo(write_results(out))
    failed = [name for name, ending in session.endings.items() if ending["status"] != PASSED]
    raise typer.Exit(code=bool(failed) or bool(set(asked) - set(session.endings)))


if __name__ == "__main__":
    typer.run(main)

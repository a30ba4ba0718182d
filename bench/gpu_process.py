"""Run a part: a command with a time limit that leaves no process behind, and rows in what it says.

A process group of its own is killed as a whole when the command ends, however it ends: a child that
still computes would slow down all that is timed later. (No session of its own: what lends machines
may end the processes of a session.) A line that is a JSON object is a row of the part's results.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_children import ending

PASSED, TOO_LONG, STUCK = "passed", "took too long", "cannot be killed"
# between a kill and the end, which a driver may put off
END_S = 10.0


@dataclass(frozen=True)
class Part:
    """A command, in words for a process, and the seconds it may take.

    One in the background runs beside the next ones; a part `after` it waits until its own seconds
    begin. `bold` words are added to the command if the parts `proven` have passed. `record` is a
    file of JSON that it leaves.
    """

    name: str
    command: Sequence[str]
    limit_s: float
    background: bool = False
    after: str | None = None
    proven: Sequence[str] = ()
    bold: Sequence[str] = ()
    record: Path | None = None


@dataclass(frozen=True)
class Ending:
    """How a part ended on a commit, and what came out of it."""

    status: str
    seconds: float
    limit_s: float
    commit: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    record: dict[str, Any] | None = None


class StuckDeviceError(RuntimeError):
    """Something that was killed still has the device, so that nothing after it is worth timing."""


class Running:
    """A part that was started; what it says goes to a file of its own."""

    def __init__(self, part: Part, log: Path, cwd: Path, environment: dict[str, str]) -> None:
        self.part, self.log = part, log
        self.began = time.perf_counter()
        self.process: subprocess.Popen[bytes] | None = None
        with log.open("w") as file:
            file.write(f"\n=== {part.name}: {shlex.join(part.command)}\n")
            file.flush()
            try:
                self.process = subprocess.Popen(
                    part.command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env=environment,
                    process_group=0,
                )
            except OSError as error:
                file.write(f"{error}\n")

    def end(self, limit_s: float, commit: str) -> Ending:
        """Wait for the end so long at most, then kill what is left, and say how it ended."""
        status = "failed: no such program"
        if self.process is not None:
            try:
                code = self.process.wait(max(limit_s, 0))
                status = PASSED if code == 0 else f"failed: {ending(code)}"
            except subprocess.TimeoutExpired:
                status = TOO_LONG
            finally:
                killed = self._kill()
            status = status if killed else STUCK
        seconds = round(time.perf_counter() - self.began, 1)
        rows, record = self._rows(), self._record()
        return Ending(status, seconds, round(limit_s, 1), commit, rows, record)

    def _kill(self) -> bool:
        """Kill the whole group; whether the command has ended."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_S)
        return self.process.returncode is not None

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                with suppress(json.JSONDecodeError):
                    rows.append(json.loads(line))
        return rows

    def _record(self) -> dict[str, Any] | None:
        with suppress(OSError, json.JSONDecodeError):
            if self.part.record is not None:
                record: dict[str, Any] = json.loads(self.part.record.read_text())
                return record
        return None


def occupants() -> set[str]:
    """Return the processes that have the device, as nvidia-smi lists them; none without it."""
    query = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=END_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return set()
    return {line.strip() for line in done.stdout.splitlines() if line.strip()}


def check_device_is_free(before: set[str]) -> None:
    """Wait until the device has no processes but those of before.

    Raises StuckDeviceError when it still has some after END_S seconds.
    """
    deadline = time.perf_counter() + END_S
    while left := occupants() - before:
        if time.perf_counter() > deadline:
            names = ", ".join(sorted(left))
            raise StuckDeviceError(f"the device is still used by process {names}, after its end")
        time.sleep(0.2)

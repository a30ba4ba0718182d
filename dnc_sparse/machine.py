"""What a result was measured with: versions, processor, threads, memory in use."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dnc_sparse import __version__
from dnc_sparse.processor import processor

PROC = Path("/proc")
MIB = 2**20


def describe() -> dict[str, Any]:
    """Return a JSON-able record of versions, machine and threads, for results to carry."""
    # cores are counted, and memory is measured, where torch is not installed too
    import torch

    from dnc_sparse import backends

    return {
        "dnc_sparse": __version__,
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "backend": backends.select("cpu", torch.float32).__name__.rpartition(".")[2],
    }


def cores() -> int:
    """Return how many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy_cores(interval_s: float = 0.1) -> float:
    """Return how many of its cores others use, watched for a moment while this thread sleeps.

    The load average would be that of the last minute, this user's last command included. Where the
    system does not tell, 0.
    """
    before = _used_and_all()
    time.sleep(interval_s)
    after = _used_and_all()
    return sum(
        (used - before[core][0]) / max(1, total - before[core][1])
        for core, (used, total) in after.items()
        if core in before
    )


def _used_and_all() -> dict[int, tuple[int, int]]:
    """Return the clock ticks of each core of this process: worked, and in all."""
    try:
        lines = (PROC / "stat").read_text().splitlines()
    except FileNotFoundError:
        return {}
    ours = os.sched_getaffinity(0)
    ticks = {}
    for line in lines:
        name, *counts = line.split()
        if name[:3] == "cpu" and name[3:].isdecimal() and int(name[3:]) in ours:
            # the first eight add up; those after them are parts of the first two
            user_to_steal = [int(count) for count in counts[:8]]
            idle = user_to_steal[3] + user_to_steal[4]
            ticks[int(name[3:])] = (sum(user_to_steal) - idle, sum(user_to_steal))
    return ticks


def commit() -> str | None:
    """Return the commit of the source tree this package runs from, marked `+` when changed.

    None when it runs from elsewhere (an installed wheel inside someone's repository, say).
    """
    package = Path(__file__).parent
    top = _git(package, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() / "dnc_sparse" != package.resolve():
        return None
    head = _git(package, "rev-parse", "--short", "HEAD")
    return head and head + ("+" if _git(package, "status", "--porcelain") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


class PeakMemory:
    """Peak resident memory of this process above what it held at the start.

    On Linux the kernel's high-water mark is set back at the start and by `forget`, so that memory
    needed for a moment before (to read the data, to draw a pattern) hides nothing and counts for
    nothing. Where that is not possible the growth of `ru_maxrss` is reported instead.
    """

    def __init__(self) -> None:
        self._resets = _reset_peak()
        self._start = self._peak()

    def forget(self) -> None:
        """Forget the peak so far; what is still held counts."""
        if self._resets:
            _reset_peak()

    def mib(self) -> float:
        """Return the peak in MiB."""
        return (self._peak() - self._start) / MIB

    def _peak(self) -> int:
        if self._resets:
            status = (PROC / "self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
        # Windows lacks this module; the other commands do without it
        import resource

        # kilobytes, but bytes on macOS
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reset_peak() -> bool:
    """Set the high-water mark back to what is held now; False where that is not possible."""
    try:
        # memory freed but still held would be used again unseen
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        (PROC / "self/clear_refs").write_text("5")
    except (OSError, AttributeError, TypeError):
        return False
    return True

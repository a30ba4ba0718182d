"""Which OpenMP runtimes live in this process: torch and the CPU backend must share one."""

from __future__ import annotations

import re
from pathlib import Path

MAPS = Path("/proc/self/maps")
_RUNTIME = re.compile(r"lib(gomp|iomp|omp)[^/]*\.so[^/]*$")


def runtimes(maps: Path = MAPS) -> list[Path]:
    """Return the files of the loaded OpenMP runtimes; empty where the system does not tell."""
    if not maps.exists():
        return []
    # address, permissions, offset, device, inode, path
    fields = (line.split(maxsplit=5) for line in maps.read_text().splitlines())
    files = {field[5] for field in fields if len(field) == 6}
    return sorted(Path(name) for name in files if _RUNTIME.search(name))


def conflict(loaded: list[Path]) -> str | None:
    """Say what is wrong when several runtimes are loaded, and the way out; None for at most one."""
    if len(loaded) < 2:
        return None
    return (
        f"{len(loaded)} OpenMP runtimes are loaded ({', '.join(map(str, loaded))}); each starts "
        f"threads of its own and they slow each other down. Build dnc-sparse against torch's "
        f"runtime (reinstall it in this environment), or preload one with LD_PRELOAD"
    )

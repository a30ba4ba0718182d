"""How much memory this process can ever have, so that what cannot fit is refused in words.

A system that gives out more memory than there is would end the process without any.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# limits of containers, in both versions of Linux's control groups
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_memory(what: str, n_bytes: float, way_out: str) -> None:
    """Raise RuntimeError when so many bytes are more than all memory of this machine."""
    limit = memory_bytes()
    if limit is not None and n_bytes > limit:
        raise RuntimeError(
            f"{what} would need at least {n_bytes / 2**30:,.1f} GiB, and this machine has "
            f"{limit / 2**30:,.1f} GiB of memory; {way_out}"
        )


@cache
def memory_bytes() -> int | None:
    """Return the bytes of memory that this process can have; None where the system keeps mum."""
    return min(_limits(), default=None)


def _limits() -> Iterator[int]:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in map(Path, LIMITS):
        text = path.read_text().strip() if path.is_file() else "max"
        # without a limit there is a word, or in the first version a number beyond any machine
        if text.isdecimal():
            yield int(text)

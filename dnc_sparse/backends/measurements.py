"""What the planner measured, remembered in memory and in a file of this user and machine.

The file is a convenience: one that is missing, damaged or of another machine, processor, torch or
build of the kernels counts as empty, one that cannot be written is not written, and without pooch,
which knows the user's cache folder, there is none.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

from dnc_sparse.processor import processor

Seconds = dict[str, float]
M = TypeVar("M")
COMPILED = ("_cpu", "_cuda")

_loaded: dict[Path | None, dict[str, Seconds]] = {}


def get(key: str) -> Seconds | None:
    """Return the seconds that were measured under a key; None when there are none."""
    return _load().get(key)


def put(key: str, seconds: Seconds) -> None:
    """Remember what was measured under a key, besides what other processes wrote meanwhile."""
    loaded, path = _load(), file()
    loaded[key] = seconds
    if path is None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine(), "seconds": _read(path) | loaded}
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(path)


def remembered(case: str, methods: Sequence[M], measure: Callable[[], Seconds]) -> dict[M, float]:
    """Return the seconds of the methods in a case, measured before or now; `str` names a method.

    Those that took too long to be timed may lack.
    """
    key = f"{case}: {' or '.join(map(str, methods))}"
    by_name = {str(method): method for method in methods}
    seconds = get(key)
    if not seconds or not seconds.keys() <= by_name.keys():
        seconds = measure()
        put(key, seconds)
    return {by_name[name]: one for name, one in seconds.items()}


def is_kept() -> bool:
    """Whether the file is there or can be written."""
    path = file()
    if path is None:
        return False
    folder = next(parent for parent in path.parents if parent.exists())
    return path.is_file() or (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK))


def forget() -> None:
    """Forget everything measured on this machine, in the file too."""
    path = file()
    _loaded.pop(path, None)
    if path is not None:
        with suppress(OSError):
            path.unlink()


def file() -> Path | None:
    """Return where this machine's measurements are kept, in the user's cache folder; None if not.

    pooch, or what it needs, may lack where this package was installed without its dependencies.
    """
    name = hashlib.sha256(json.dumps(machine()).encode()).hexdigest()[:16]
    try:
        # only a process that measures pays for this import
        folder: str = import_module("pooch").os_cache("dnc-sparse")
    except ModuleNotFoundError:
        return None
    return Path(folder) / "planner" / f"{name}.json"


@cache
def machine() -> dict[str, Any]:
    """Return what a measurement holds for: processor, kernels, versions."""
    return {
        "processor": processor(),
        "torch": torch.__version__,
        "dnc_sparse": version("dnc-sparse"),
        "kernels": {name: _build(name) for name in COMPILED},
    }


def _build(name: str) -> int | None:
    """When a compiled module was built, for one built anew may be faster; None without it."""
    spec = find_spec(f"dnc_sparse.{name}")
    return int(Path(str(spec.origin)).stat().st_mtime) if spec else None


def _load() -> dict[str, Seconds]:
    path = file()
    if path not in _loaded:
        _loaded[path] = _read(path)
    return _loaded[path]


def _read(path: Path | None) -> dict[str, Seconds]:
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("machine") != machine():
        return {}
    seconds = content.get("seconds")
    return (
        {key: times for key, times in seconds.items() if _sound(times)}
        if isinstance(seconds, dict)
        else {}
    )


def _sound(seconds: object) -> bool:
    """Whether these are times of methods."""
    return (
        isinstance(seconds, dict)
        and bool(seconds)
        and all(
            isinstance(one, float) and math.isfinite(one) and one > 0 for one in seconds.values()
        )
    )

"""What `bench/gpu.py` does, as data: the parts of each call, in order, with their seconds.

A part's deadline is the sum of the seconds up to its own, so that the seconds of a call are never
more than their sum, and what a part leaves is the next one's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal, get_args

from gpu_prepare import FOLDER, ROOT
from gpu_process import Part

Call = Literal["check", "measure"]
CALLS: tuple[Call, ...] = get_args(Call)
# other libraries: what is measured of each, and the seconds for it
PEERS = {"stk": ("step", 15), "bsr": ("forward", 10), "gather-bmm": ("step", 10)}
DEVICE_TESTS = ("test_gpu_device.py", "test_cuda.py")
# what only a device shows; the rest of these files runs on the emulator too, or takes minutes
CHOSEN_TESTS = "graph or stream or waits or int32 or (gpu and small_integers)"
PYTEST = ("-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", "--maxfail", "3")
FIRST_CONTACT = "first contact"


@dataclass(frozen=True)
class Places:
    """Where results go, and where the prepared libraries are."""

    out: Path
    libraries: Path = FOLDER


SMALL_SUITE = ("--suite", "cpu", "--quick", "--only", "forward / dense (1/8)")
# A dry run has the same parts with these words behind them: emulated kernels, the interpreter,
# stubs of programs, and small junctions on the CPU.
DRY: dict[str, tuple[str, ...]] = {
    "environment": ("--device", "cpu"),
    "build": ("--dry-run",),
    "libraries": ("--dry-run",),
    FIRST_CONTACT: ("--device", "cpu", "--only", "bfloat16, batch 64"),
    "first contact, timed": ("--device", "cpu", "--only", "forward, block 64, 1/8"),
    "ceilings": ("--device", "cpu", "--scale", "64"),
    "triton": ("--device", "cpu", "--only", "backward, block 16, 1/8"),
    "memcheck": ("--device", "cpu", "--only", "forward of 16x16"),
    "compile": ("--device", "cpu"),
    "suite": SMALL_SUITE,
    "language model": (
        *("--layers", "1", "--width", "64", "--context", "32", "--batch", "2", "--steps", "10"),
        *("--block", "16", "--no-compile"),
    ),
}
DRY |= dict.fromkeys(PEERS, SMALL_SUITE)


def parts(call: Call, places: Places, dry: bool = False) -> list[Part]:
    """Return the parts of a call, in order."""
    parts = {"check": _check, "measure": _measure}[call](places)
    if dry:
        return [replace(part, command=[*part.command, *DRY.get(part.name, ())]) for part in parts]
    return parts


def _check(places: Places) -> list[Part]:
    """What is right, and how fast its kernels are by themselves."""
    tests = [str(ROOT / "tests/sparse" / name) for name in DEVICE_TESTS]
    pytest = [sys.executable, *PYTEST, *tests, "-k", CHOSEN_TESTS]
    return [
        *_first(places, contact_s=50),
        Part("first contact, timed", [*_contact(places, "libdnc_cuda.so"), "--time"], 35),
        Part("ceilings", _script("gpu_ceilings.py"), 20),
        Part("triton", _script("gpu_triton.py"), 45),
        Part("memcheck", _script("gpu_memcheck.py"), 35),
        Part("device tests", pytest, 35, after="build"),
    ]


def _measure(places: Places) -> list[Part]:
    """What users will see: the suite, a language model, then other libraries."""
    suite = [sys.executable, "-m", "dnc_sparse", "bench", "--suite", "gpu"]
    mine, model = places.out / "suite.json", places.out / "model.json"
    ours = [*suite, "--only", "dense / ours", "--json", str(mine)]
    example = [sys.executable, str(ROOT / "examples/language_model.py"), "--out", str(model)]
    for text in sorted((places.libraries / "text").glob("*"))[:1]:
        example += ["--text", str(text)]
    return [
        *_first(places, contact_s=40),
        Part("compile", _script("gpu_compile.py"), 40),
        Part(
            *("suite", ours, 115),
            after="build",
            proven=(FIRST_CONTACT, "build"),
            bold=("--block-kernels",),
            record=mine,
        ),
        Part("language model", example, 150, record=model),
        *(_peer(name, suite, places) for name in PEERS),
    ]


def _peer(name: str, suite: Sequence[str], places: Places) -> Part:
    operation, limit_s = PEERS[name]
    # not among the results: who lends a card may return few files
    file = places.libraries / f"{name}.json"
    command = [*suite, "--only", f"{name} / ours, {operation}", "--json", str(file)]
    return Part(name, command, limit_s, record=file)


def _first(places: Places, contact_s: int) -> list[Part]:
    contact = _contact(places, "libdnc_watchdog.so")
    return [
        Part("environment", _script("gpu_environment.py"), 15),
        Part("build", _script("gpu_build.py"), 0, background=True),
        Part("libraries", [*_script("gpu_prepare.py"), "--libraries"], 15),
        Part(FIRST_CONTACT, contact, contact_s),
    ]


def _contact(places: Places, library: str) -> list[str]:
    return [*_script("first_contact.py"), str(places.libraries / library)]


def _script(name: str) -> list[str]:
    return [sys.executable, str(ROOT / "bench" / name)]


def deadlines(parts: Sequence[Part]) -> dict[str, float]:
    """Return the second, after the start of a call, at which each part must have ended."""
    sums = accumulate(part.limit_s for part in parts)
    return dict(zip((part.name for part in parts), sums, strict=True))

"""The CUDA sources compiled by g++ for the emulator of tests/cuda, once per state of them."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
# setjmp's checks in a fortified libc know nothing of fibers
FLAGS = (
    *("-std=c++17", "-O2", "-U_FORTIFY_SOURCE", "-fPIC", "-shared", "-DDNC_EMULATED"),
    # a GPU reads 8 or 16 bytes at once from their multiples alone, from global memory too
    *("-fsanitize=alignment", "-fno-sanitize-recover=alignment"),
)
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-psabi")


@cache
def build(name: str, *sources: str) -> Path:
    """Compile sources into a shared library; skip where that cannot be done."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("the emulator needs g++")
    if not (ROOT / "csrc").exists():
        pytest.skip("the emulator needs csrc/, which is not beside these tests")
    pybind11 = pytest.importorskip("pybind11")
    folders = ["csrc", "csrc/cuda", "tests/cuda"]
    command = [compiler, *FLAGS, *WARNINGS, *(f"-I{ROOT / folder}" for folder in folders)]
    command += ["-isystem", pybind11.get_include(), "-isystem", sysconfig.get_path("include")]
    command += ["-x", "c++", *(str(ROOT / source) for source in sources)]
    target = ROOT / "build" / "emulated" / f"{name}-{_state(command)}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # another process may be at the same
        made = target.with_suffix(f".{os.getpid()}.tmp")
        subprocess.run([*command, "-o", str(made)], check=True)
        made.replace(target)
    return target


def _state(command: Sequence[str]) -> str:
    files = sorted(p for f in ("csrc", "tests/cuda") for p in (ROOT / f).rglob("*") if p.is_file())
    digest = hashlib.sha256(" ".join(command).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def library() -> Path:
    """Return the library of all kernels, emulated: a Python module, and plain C for ctypes."""
    kernels = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc/cuda").glob("*.cu"))
    bindings = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/bindings_cuda*.cpp"))
    return build("_cuda", *kernels, *bindings, "tests/cuda/emulator.cpp")


@cache
def module() -> ModuleType:
    """Return `dnc_sparse._cuda` with its kernels emulated: it computes on CPU tensors."""
    spec = importlib.util.spec_from_file_location("_cuda", library())
    assert spec is not None
    assert spec.loader is not None
    result = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(result)
    return result


class Wavefronts:
    """Turns that accesses to shared memory took, and the fewest that their widths allow."""

    taken = 0
    least = 0


@contextmanager
def counted_wavefronts() -> Iterator[Wavefronts]:
    """Count what the emulated kernels do inside the block."""
    emulator = ctypes.CDLL(str(library()))
    for function in (emulator.emulator_wavefronts, emulator.emulator_least_wavefronts):
        function.restype = ctypes.c_int64
    emulator.emulator_count_banks(1)
    result = Wavefronts()
    try:
        yield result
        result.taken = emulator.emulator_wavefronts()
        result.least = emulator.emulator_least_wavefronts()
    finally:
        emulator.emulator_count_banks(0)

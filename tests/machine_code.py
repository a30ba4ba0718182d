"""The machine code of the CUDA sources, as the toolkit's disassembler or triton's prints it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@cache
def compiled(source: str) -> tuple[str, dict[str, str]]:
    """Return what the assembler says of csrc/cuda/`source` for sm_90a, and its kernels by name.

    Skips where nvcc or a disassembler is missing.
    """
    compiler, reader, path = shutil.which("nvcc"), _disassembler(), ROOT / "csrc" / "cuda" / source
    if compiler is None or reader is None or not path.exists():
        pytest.skip("nvcc, cuobjdump or csrc/cuda is missing")
    with tempfile.TemporaryDirectory() as folder:
        cubin = str(Path(folder) / "kernels.cubin")
        command = [compiler, "-std=c++17", "-O3", "-gencode=arch=compute_90a,code=sm_90a", "-cubin"]
        said = subprocess.run(
            [*command, "-Xptxas=-v", str(path), "-o", cubin],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        run = subprocess.run(
            [reader, "--dump-sass", cubin], capture_output=True, text=True, check=True
        )
    _, *parts = re.split(r"Function : (\S+)", run.stdout)
    return said, dict(zip(parts[::2], parts[1::2], strict=True))


def _disassembler() -> str | None:
    found = shutil.which("cuobjdump")
    spec = importlib.util.find_spec("triton")
    if found is None and spec is not None and spec.origin is not None:
        carried = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        found = str(carried) if carried.exists() else None
    return found

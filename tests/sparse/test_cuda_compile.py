"""Every CUDA source compiles for every architecture, within its registers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from machine_code import compiled

ROOT = Path(__file__).parents[2]
# test_cuda_blocks_compile.py compiles hopper.cu, which has instructions of one architecture
SOURCES = sorted(set((ROOT / "csrc" / "cuda").glob("*.cu")) - {ROOT / "csrc/cuda/hopper.cu"})
OTHERS = ("80", "100a")
if not SOURCES:
    pytest.skip("csrc/cuda is not beside these tests", allow_module_level=True)


@pytest.fixture(scope="module")
def nvcc() -> str:
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("nvcc is not on the PATH")
    return compiler


def spilled(said: str) -> list[str]:
    """Return the kernels of which the assembler says that they keep registers in memory."""
    kernels = re.findall(r"Compiling entry function '(\S+)' for '(\S+)'", said)
    frames = re.findall(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said
    )
    assert len(kernels) <= len(frames)
    return [k for k, f in zip(kernels, frames, strict=False) if set(f) != {"0"}]


@pytest.mark.parametrize("architecture", OTHERS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_compiles_without_spills(
    source: Path, architecture: str, nvcc: str, tmp_path: Path
) -> None:
    command = [nvcc, "-std=c++17", "-O3", "-Xptxas=-v", "-c", str(source)]
    command += [f"-gencode=arch=compute_{architecture},code=sm_{architecture}"]
    run = subprocess.run(
        [*command, "-o", str(tmp_path / "object.o")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert spilled(run.stderr) == []
    assert "warning" not in run.stderr


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_compiles_for_hopper(source: Path) -> None:
    said, codes = compiled(source.name)
    assert spilled(said) == []
    assert "warning" not in said
    if source.name == "few.cu":
        check_few(codes)


def test_shared_memory_is_read_16_bytes_at_once(nvcc: str, tmp_path: Path) -> None:
    for name in ("multiply", "grad_weight"):
        ptx = tmp_path / f"{name}.ptx"
        source = ROOT / "csrc" / "cuda" / f"{name}.cu"
        command = [nvcc, "-std=c++17", "-arch=compute_80", "-ptx", str(source), "-o", str(ptx)]
        subprocess.run(command, check=True)
        text = ptx.read_text()
        assert "ld.shared.v4" in text
        assert "cp.async.cg.shared.global" in text
        # a load that the compiler could not place would be slower
        assert not re.search(r"\bld\.(v4\.)?[bfu]\d", text)


def check_few(codes: dict[str, str]) -> None:
    """Require it to ask for 64 bytes of weights before it copies inputs.

    Of 512 lanes that is 33 KB, and 26 KB hide 0.8 us of latency at 4.3 TB/s.
    """
    assert len(codes) == 54
    for name, code in codes.items():
        width, side = re.search(r"few(?:I|INS0_)(f|\d)\w*?Li(\d)E", name).groups()
        line = (4 if width == "f" else 2) * (2 if side == "2" else 4)
        load = "LDG.E " if line == 4 else f"LDG.E.{line * 8} "
        before, _, _ = code.partition("STS")
        assert line * before.count(load) >= 64, name
        assert not re.search(r"\b(LDL|STL|FFMA|BAR\.SYNC)\b", before), name

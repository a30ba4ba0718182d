"""When an install compiles the CUDA kernels: with a GPU, or when it is told to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = f"""
include({ROOT}/cmake/wanted_cuda.cmake)
message("reason: ${{no_cuda_reason}}")
message("for: ${{cuda_architectures}}")
"""
NO_GPU = "nvidia-smi lists no GPU on this machine; DNC_CUDA=ON builds it all the same"
CARD = "GPU 0: NVIDIA H200 (UUID: GPU-1)"


def decided(
    value: str, listed: str | None, tmp_path: Path, capability: str = "No devices found."
) -> str:
    """Run the decision with a `nvidia-smi` that lists this, or without one; return what it says."""
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not installed")
    script = tmp_path / "decide.cmake"
    script.write_text(SCRIPT)
    tools = tmp_path / "tools"
    tools.mkdir()
    if listed is not None:
        tool = tools / "nvidia-smi"
        tool.write_text(
            f"#!/bin/sh\ncase $1 in -L) echo '{listed}';; *) echo '{capability}';; esac\n"
        )
        tool.chmod(0o755)
    done = subprocess.run(
        # the only folder that is searched
        [cmake, f"-DDNC_CUDA={value}", f"-DCMAKE_PROGRAM_PATH={tools}", "-P", str(script)],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
    )
    return done.stderr.strip()


@pytest.mark.parametrize(
    ("value", "listed", "reason"),
    [
        ("AUTO", CARD, ""),
        ("AUTO", "No devices found.", NO_GPU),
        ("AUTO", None, NO_GPU),
        ("NVCC", "No devices found.", ""),
        ("ON", None, ""),
        ("1", None, ""),
        ("OFF", CARD, "DNC_CUDA=OFF"),
        ("0", CARD, "DNC_CUDA=0"),
    ],
)
def test_kernels_are_compiled_where_there_is_a_gpu_or_when_told(
    value: str, listed: str | None, reason: str, tmp_path: Path
) -> None:
    said = decided(value, listed, tmp_path)
    assert said.splitlines()[0] == f"reason: {reason}"


ALL = "80;90a-real;100a-real"


@pytest.mark.parametrize(
    ("value", "capability", "architectures"),
    [
        ("ON", "8.9", ALL),
        ("AUTO", "8.9", ALL),
        ("NVCC", "No devices found.", "90a-real"),
        ("NVCC", "9.0\n9.0", "90a-real"),
        ("NVCC", "8.0\n10.0", "80-real;100a-real"),
        ("NVCC", "8.9", "89-real"),
    ],
)
def test_development_compiles_for_the_gpus_of_the_machine_or_one(
    value: str, capability: str, architectures: str, tmp_path: Path
) -> None:
    said = decided(value, CARD, tmp_path, capability)
    assert said.splitlines()[1] == f"for: {architectures}"


def test_an_unknown_value_is_refused(tmp_path: Path) -> None:
    assert "DNC_CUDA=MAYBE is unknown; choose AUTO, NVCC, ON or OFF" in decided(
        "maybe", None, tmp_path
    )

"""The emulator finds mistakes that are planted in a Hopper kernel's source."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from emulated_cuda import FLAGS, ROOT
from support import small_integers

from dnc_sparse.backends import reference
from dnc_sparse.patterns import regular

SOURCE = "hopper_multiply.cuh"
ROWS, COLUMNS, SLOTS, BATCH, MULTIPROCESSORS = 3, 6, 5, 520, 2
MISTAKES = {
    "data not waited for": ("barrier_wait(ring.full(stage), cursor.parity);", ""),
    "wrong parity": ("ring.full(stage), cursor.parity)", "ring.full(stage), cursor.parity ^ 1)"),
    "stage not waited for": ("barrier_wait(ring.empty(stage), cursor.parity ^ 1);", ""),
    "stage given back early": ("wait_products<1>();", ""),
    "products not waited for": ("    wait_products<0>();\n", ""),
    "no proxy fence": ("  async_proxy_fence();\n", ""),
    "staging overwritten": ("if (thread == 0) {\n    wait_stores_read();\n  }", ""),
    "too few bytes": ("stage), Layout::kStageBytes)", "stage), Layout::kInputBytes)"),
    "wrong step along k": ("operand(weight + k * 32, 0)", "operand(weight + k * 16, 0)"),
}


def run(folder: Path) -> bool:
    """Compile the kernel of a folder, and tell whether it equals the oracle."""
    library = folder / "planted.so"
    includes = (f"-I{folder}", f"-I{ROOT / 'tests/cuda'}")
    source = str(ROOT / "tests/cuda/planted.cu")
    command = ["g++", *FLAGS, "-w", *includes, "-x", "c++", source, "-o", str(library)]
    subprocess.run(command, check=True)
    pattern = regular(n_in=COLUMNS * 64, n_out=ROWS * 64, fan_in=SLOTS * 64, block=64, seed=0)
    case = small_integers(pattern, BATCH, torch.bfloat16)
    y = torch.full((BATCH, pattern.n_out), float("nan"), dtype=torch.bfloat16)
    sources = torch.from_numpy(pattern.sources.copy())
    error = ctypes.CDLL(str(library)).planted_multiply(
        *(ctypes.c_void_p(t.data_ptr()) for t in (case.x, case.weight, sources, y)),
        ctypes.c_int64(BATCH),
        *(COLUMNS, ROWS, SLOTS, MULTIPROCESSORS),
    )
    exact = reference.forward(case.x.double(), case.weight.double(), None, pattern)
    return error == 0 and torch.equal(y, exact.to(torch.bfloat16))


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    if shutil.which("g++") is None or not (ROOT / "csrc/cuda").exists():
        pytest.skip("the emulator needs g++ and csrc/cuda")
    return Path(shutil.copytree(ROOT / "csrc/cuda", tmp_path / "cuda"))


def test_without_a_mistake_it_equals_the_oracle(kernels: Path) -> None:
    assert run(kernels)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str, kernels: Path) -> None:
    right, wrong = MISTAKES[mistake]
    text = (kernels / SOURCE).read_text()
    assert text.count(right) == 1
    (kernels / SOURCE).write_text(text.replace(right, wrong))
    assert not run(kernels)

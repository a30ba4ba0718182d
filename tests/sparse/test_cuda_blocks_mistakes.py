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
# clusters of two, of which one takes an odd last panel, with three units each
ROWS, COLUMNS, SLOTS, BATCH, MULTIPROCESSORS = 3, 6, 5, 520, 4
WAIT_FULL = "barrier_wait(ring.full(cursor.stage), cursor.parity);"
MISTAKES = {
    "data not waited for": (WAIT_FULL, ""),
    "wrong parity": (WAIT_FULL, WAIT_FULL.replace("parity)", "parity ^ 1)")),
    "stage not waited for": ("barrier_wait(ring.empty(stage), cursor.parity ^ 1);", ""),
    "stage given back early": (
        "      wait_products<1>();\n      release();",
        "      release();\n      wait_products<1>();",
    ),
    "stage given back to one block of a cluster": (
        "barrier_arrive_at(ring.empty(previous), threadIdx.x % 32);",
        "barrier_arrive_at(ring.empty(previous), units.rank);",
    ),
    "last products not waited for": (
        "      wait_products<0>();\n      release();\n      store",
        "      release();\n      store",
    ),
    "no proxy fence": ("  async_proxy_fence();\n", ""),
    "staging overwritten": ("if (thread == 0) {\n    wait_stores_read();\n  }", ""),
    "too few bytes": ("stage), Layout::kStageBytes)", "stage), Layout::kInputBytes)"),
    "wrong step along k": ("operand(input + k * 32, 0)", "operand(input + k * 16, 0)"),
    "weights for this block alone": ("(1 << units.ranks) - 1", "1 << units.rank"),
    "a block ends while another one needs it": ("    cluster_sync();\n  } else {", "  } else {"),
    "lines of a matrix in another order": (
        "lane % 8 + lane / 16 * 8",
        "lane / 8 % 2 * 8 + lane % 8",
    ),
    # these hang or corrupt on hardware and change nothing that a plain emulator would look at
    "no fence before products": ("    products_fence();\n", ""),
    "no fence of the barriers' initialisation": ("      barrier_init_fence();\n", ""),
    "stores in no group": ("    commit_stores();\n", ""),
    "more registers than there are": ("more_registers<232>();", "more_registers<240>();"),
    "registers changed by one thread": (
        "      fewer_registers<40>();\n      if (threadIdx.x == 0) {\n",
        "      if (threadIdx.x == 0) {\n        fewer_registers<40>();\n",
    ),
    "no launch bound": ("__launch_bounds__(3 * kWarpGroup, 1)", ""),
    "an arrival for each warpgroup": (
        "static_cast<int>(threadIdx.x % 32) < units.ranks",
        "static_cast<int>(threadIdx.x % 128) < units.ranks",
    ),
}
ALSO = {
    "an arrival for each warpgroup": (
        "2 * kWarpGroup / 32 * cluster_ranks()",
        "2 * cluster_ranks()",
    )
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
    text = (kernels / SOURCE).read_text()
    for right, wrong in filter(None, (MISTAKES[mistake], ALSO.get(mistake))):
        assert text.count(right) == 1
        text = text.replace(right, wrong)
    (kernels / SOURCE).write_text(text)
    assert not run(kernels)

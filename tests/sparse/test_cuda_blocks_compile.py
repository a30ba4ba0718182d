"""Hopper's kernels compile to warpgroup products and box copies, and fit in shared memory."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "csrc" / "cuda" / "hopper.cu"


def disassembler() -> str | None:
    """The toolkit's, or the one that triton carries."""
    found = shutil.which("cuobjdump")
    spec = importlib.util.find_spec("triton")
    if found is None and spec is not None and spec.origin is not None:
        carried = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        found = str(carried) if carried.exists() else None
    return found


@pytest.fixture(scope="module")
def machine_code(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Machine code for sm_90a of each kernel but the one that adds partial sums."""
    compiler, reader = shutil.which("nvcc"), disassembler()
    if compiler is None or reader is None or not SOURCE.exists():
        pytest.skip("nvcc, cuobjdump or csrc/cuda is missing")
    cubin = tmp_path_factory.mktemp("hopper") / "hopper.cubin"
    command = [compiler, "-std=c++17", "-O3", "-gencode=arch=compute_90a,code=sm_90a", "-cubin"]
    said = subprocess.run(
        [*command, "-Xptxas=-v", str(SOURCE), "-o", str(cubin)],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    # C75xx: products that wait for each other, for the compiler cannot keep sums in place
    assert not re.search(r"warning|C75\d\d|[1-9]\d* bytes (stack|spill)", said), said
    # 40 + 2 x 232 registers fill what 384 threads of 168 begin with
    registers = re.findall(r"entry function '(\S+)'.*?Used (\d+) registers", said, re.DOTALL)
    assert {number for name, number in registers if "add_partials" not in name} == {"168"}
    run = subprocess.run(
        [reader, "--dump-sass", str(cubin)], capture_output=True, text=True, check=True
    )
    _, *parts = re.split(r"Function : (\S+)", run.stdout)
    functions = zip(parts[::2], parts[1::2], strict=True)
    return {name: code for name, code in functions if "add_partials" not in name}


def test_every_kernel_uses_the_tensor_cores_and_the_copy_engine(
    machine_code: dict[str, str],
) -> None:
    assert len(machine_code) == 36
    for name, code in machine_code.items():
        multiplies = "multiply_kernel" in name
        stores = multiplies or name.count("Lb1E") == 1
        assert "UTMALDG.2D" in code, name
        assert ("UTMASTG.2D" in code) == stores, name
        assert ("UTMALDG.2D.MULTICAST" in code) == multiplies, name
        assert ("STSM.16.MT88.4" in code) == multiplies, name
        assert "USETMAXREG" in code, name
        assert not re.search(r"\bHMMA\.|\b(LDL|STL)\b", code), name


def test_products_wait_for_a_group_and_not_for_each_other(machine_code: dict[str, str]) -> None:
    for name, code in machine_code.items():
        products = len(re.findall(r"\bHGMMA\.", code))
        waits = len(re.findall(r"\bWARPGROUP\.DEPBAR", code))
        assert products >= 8, name
        assert waits <= products / 2, (name, products, waits)

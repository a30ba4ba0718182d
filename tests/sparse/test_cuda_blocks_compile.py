"""Hopper's kernels compile to warpgroup products and box copies, and fit in shared memory."""

from __future__ import annotations

import re

import pytest
from machine_code import kernels


@pytest.fixture(scope="module")
def machine_code() -> dict[str, str]:
    """Machine code for sm_90a of each kernel."""
    return kernels("hopper.cu")


def test_every_kernel_uses_the_tensor_cores_and_the_copy_engine(
    machine_code: dict[str, str],
) -> None:
    assert len(machine_code) == 36
    for name, code in machine_code.items():
        stores = "multiply_kernel" in name or name.count("Lb1E") == 1
        assert "UTMALDG.2D" in code, name
        assert ("UTMASTG.2D" in code) == stores, name
        assert "USETMAXREG" in code, name
        assert not re.search(r"\bHMMA\.|\b(LDL|STL)\b", code), name


def test_products_of_a_stage_are_one_group(machine_code: dict[str, str]) -> None:
    # a compiler that cannot keep sums in place waits after each product
    for name, code in machine_code.items():
        products = len(re.findall(r"\bHGMMA\.", code))
        waits = len(re.findall(r"\bWARPGROUP\.DEPBAR", code))
        assert products >= 8, name
        assert waits <= 4, name

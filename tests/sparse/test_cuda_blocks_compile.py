"""Hopper's kernels compile to warpgroup products and box copies, and fit in shared memory."""

from __future__ import annotations

import re

import pytest
from machine_code import compiled


@pytest.fixture(scope="module")
def machine_code() -> dict[str, str]:
    """Machine code for sm_90a of each kernel but the one that adds partial sums."""
    codes = compiled("hopper.cu")[1]
    return {name: code for name, code in codes.items() if "add_partials" not in name}


def test_no_kernel_spills_or_waits_after_each_product(machine_code: dict[str, str]) -> None:
    said, _ = compiled("hopper.cu")
    # C75xx: products that wait for each other, for the compiler cannot keep sums in place
    assert not re.search(r"warning|C75\d\d|[1-9]\d* bytes (stack|spill)", said), said
    # 40 + 2 x 232 registers fill what 384 threads of 168 begin with
    registers = dict(re.findall(r"entry function '(\S+)'.*?Used (\d+) registers", said, re.DOTALL))
    assert {registers[name] for name in machine_code} == {"168"}


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

"""The Triton kernels compiled for GPUs that need not be here: do they fit, by which instructions?

`python tests/sparse/triton_compiled.py` prints what is tested as a table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dnc_sparse.backends import triton

Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def records() -> Records:
    """Compile in a process of its own: in this one the kernels may be the interpreter's."""
    if triton._kernels() is None:
        pytest.skip(f"triton: {triton.unavailable()}")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("triton_compiled.py")
    run = subprocess.run(
        [sys.executable, script, "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    first, *lines = run.stdout.splitlines()
    return [json.loads(line) | {"triton": first.split()[1]} for line in lines]


def on(records: Records, gpu: int) -> Records:
    return [record for record in records if record["gpu"] == gpu]


def test_shared_memory_is_what_the_tiles_allow_for(records: Records) -> None:
    # Triton itself does not check it
    for record in records:
        assert record["shared_bytes"] <= record["expected_bytes"] <= record["limit_bytes"], record


def test_nothing_spills_to_memory(records: Records) -> None:
    for record in records:
        # registers that Triton 3.9 and Blackwell keep apart beside the largest sums
        newest = tuple(map(int, record["triton"].split(".")[:2])) >= (3, 9)
        spared = 128 if newest else 32 if record["gpu"] == 100 else 0
        assert record["stack_bytes"] <= spared, record


def test_programs_that_are_to_run_together_find_registers(records: Records) -> None:
    assert any(record["together"] == 2 for record in records)
    for record in records:
        # they are given out by eights
        registers = -(-record["registers"] // 8) * 8 * record["threads"]
        assert registers * record["together"] <= 65536, record


def test_matrix_instructions_are_those_of_the_gpu(records: Records) -> None:
    for record in records:
        if record["dtype"] == "float32 IEEE":
            assert record["wgmma"] == record["mma_sync"] == 0, record
        elif record["gpu"] == 90 and record["block"] >= 16:
            assert record["wgmma"] > 0, record
            assert record["mma_sync"] == 0, record
        elif record["gpu"] == 100:
            assert record["tcgen05"] > 0, record
            assert record["mma_sync"] == 0, record
        else:
            assert record["wgmma"] + record["mma_sync"] > 0, record


def test_matrix_instructions_are_as_wide_as_the_model_counts(records: Records) -> None:
    # Triton 3.9 has such instructions for blocks of 8 as well
    wide = [record for record in on(records, 90) if record["block"] >= 16]
    hopper = [record for record in wide if record["dtype"] != "float32 IEEE"]
    assert {"resident", "streamed", "fused", "separate"} == {one["kernel"] for one in hopper}
    for record in hopper:
        assert record["wgmma_columns"] == record["expected_columns"], record


def test_nothing_waits_for_each_matrix_instruction(records: Records) -> None:
    # as ptxas has it do (C7515) where it sees sums change between such instructions
    for record in records:
        assert record["wgmma_waits"] < max(record["wgmma_in_sass"], 1), record


def test_gathers_are_copied_16_bytes_at_a_time(records: Records) -> None:
    for record in records:
        # of 8 or 16 owned neurons, a tile leaves less than 16 bytes to each thread; TF32's
        # instructions take no transposed operand, so that Triton transposes while it copies
        if record["block"] >= 32 and record["dtype"] != "float32 TF32":
            assert record["copies_of_16_bytes"] > 0, record
            assert record["smaller_copies"] == 0, record

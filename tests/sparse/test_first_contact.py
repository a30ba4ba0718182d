"""`bench/first_contact.py` on emulated kernels: right ones, wrong ones, and one that hangs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import contact_kernels
import emulated_cuda
import first_contact
import gpu_children
import pytest
import torch
from contact_kernels import FUNCTIONS, Junction, Library, Task
from emulated_cuda import FLAGS, ROOT
from gpu_prepare import CUDA_BIN

# Python 3.12 warns of a fork beside threads; torch's do not live in the child
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
SMALL = Junction(block=64, rows=3, columns=3, slots=2, batch=70, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(emulated_cuda.library())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_right_kernels_are_right(library: Library, function: str) -> None:
    case = first_contact.Case(function, SMALL)
    assert first_contact.run(case, library, "cpu") == {"verdict": "right"}
    row = first_contact.run(first_contact.Case(function, SMALL, timed=True), library, "cpu")
    assert row["verdict"] == "right"
    assert set(row["errors"].values()) == {0.0}
    assert (row["block"], row["inverse_density"]) == (64, 1)
    assert row["us"] > 0


def test_every_kernel_is_tried_and_timed() -> None:
    small, large = first_contact.exact_cases(), first_contact.timed_cases()
    # four shapes, of which one has four batches, of four functions, two blocks and two dtypes
    assert len(small) == (4 + 3) * 4 * 2 * 2
    assert len(large) == 4 * 2 * 4
    junction = large["backward, block 64, 1/8"].junction
    assert junction == Junction(64, 64, 64, 8, 16384, torch.bfloat16)
    assert junction.degree == 8


def test_wrong_numbers_are_told(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Task.expected

    def off(self: Task, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        values = right(self, dtype)
        values["y"][5, 7] += 64
        return values

    monkeypatch.setattr(Task, "expected", off)
    row = first_contact.run(first_contact.Case("forward", SMALL), library, "cpu")
    detail = f"1 of {70 * 192} numbers of y in run 0, the first at [5, 7]"
    assert row == {"verdict": "wrong", "detail": detail}
    case = first_contact.Case("forward", SMALL, timed=True)
    assert first_contact.run(case, library, "cpu")["verdict"] == "wrong"


def test_a_missing_number_is_wrong(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Task, "run", lambda task: task.y[:-1].zero_())
    row = first_contact.run(first_contact.Case("forward", SMALL), library, "cpu")
    assert row["verdict"] == "wrong"


def test_a_hang_names_thread_and_barrier(tmp_path: Path) -> None:
    """A phase that awaits more bytes than are copied never completes."""
    kernels = Path(shutil.copytree(ROOT / "csrc/cuda", tmp_path / "cuda"))
    source = kernels / "hopper_multiply.cuh"
    right, wrong = "stage), Layout::kStageBytes)", "stage), Layout::kStageBytes + 16)"
    assert source.read_text().count(right) == 1
    source.write_text(source.read_text().replace(right, wrong))
    built = tmp_path / "planted.so"
    includes = (f"-I{kernels}", f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests/cuda'}")
    files = (str(kernels / name) for name in ("hopper.cu", "device.cu"))
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("the emulator needs g++")
    # compiled for this test alone, so quickly
    command = [compiler, *FLAGS, "-O0", "-w", *includes, "-x", "c++", *files, "-o", str(built)]
    subprocess.run(command, check=True)
    rows = list(
        gpu_children.in_children(
            ("forward", "grad_weight"),
            lambda name: first_contact.run(first_contact.Case(name, SMALL), Library(built), "cpu"),
            limit_s=60,
        )
    )
    assert [row["verdict"] for row in rows] == ["raised", "right"]
    waits = r"RuntimeError: block 0: \d+ of 384 threads wait for ever, "
    who = r"the last one, thread 383, for the mbarrier at \d+"
    assert re.fullmatch(waits + who, rows[0]["detail"])


def test_what_the_watchdog_noted_is_told() -> None:
    noted = 1 << 63 | 5 << 40 | 383 << 24 | 0x1C010 << 2 | 1
    text = "thread 383 of block 5 waits for the mbarrier at 0x1c010, parity 1"
    assert contact_kernels.described(noted) == text
    assert contact_kernels.described(0) is None


def test_the_watchdog_compiles(tmp_path: Path) -> None:
    compiler = shutil.which("nvcc", path=f"{os.environ['PATH']}:{CUDA_BIN}")
    if compiler is None:
        pytest.skip("no nvcc")
    source, built = tmp_path / "watchdog.cu", tmp_path / "watchdog.so"
    source.write_text('#include "hopper.cuh"\n')
    flags = ("-std=c++17", "-arch=sm_90a", "-shared", "-Xcompiler=-fPIC", "-DDNC_WATCHDOG")
    include = f"-I{ROOT / 'csrc/cuda'}"
    subprocess.run([compiler, *flags, include, str(source), "-o", str(built)], check=True)
    symbols = subprocess.run(["nm", "-D", built], capture_output=True, text=True, check=True)
    assert " dnc_stuck\n" in symbols.stdout


def work(case: str) -> dict[str, Any]:
    if case == "raises":
        raise ValueError("it hurts\nin two lines")
    if case == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if case == "hangs":
        time.sleep(60)
    return {"verdict": "wrong" if case == "wrong" else "right", "process": os.getpid()}


def test_a_child_that_ends_ends_one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_children, "START_S", 1.0)
    cases = ("first", "dies", "second", "hangs", "wrong", "third", "raises", "last")
    rows = list(gpu_children.in_children(cases, work, limit_s=1))
    assert [row["case"] for row in rows] == list(cases)
    assert [row["verdict"] for row in rows] == [
        *("right", "died", "right", "hangs", "wrong", "right", "raised", "right")
    ]
    assert rows[1]["detail"] == "SIGKILL"
    assert rows[3]["detail"] == "no answer in 1 s"
    assert rows[6]["detail"] == "ValueError: it hurts"
    # wrong numbers leave a process as it is
    assert rows[4]["process"] == rows[5]["process"] != rows[2]["process"]

"""The emulator finds what would go wrong on a GPU, and counts bank conflicts as one has them."""

from __future__ import annotations

import ctypes
import re

import emulated_cuda
import pytest
import torch

MISTAKES = {
    "a barrier that only some reach": (
        0,
        "block 0: 40 of 64 threads wait for ever, the last one, thread 39, for __syncthreads",
    ),
    "a lane that misses a shuffle": (
        1,
        "block 0: 31 of 64 threads wait for ever, the last one, thread 31, for its warp",
    ),
    "a write past the end": (
        2,
        "thread 63 of block 0 touches 4 bytes at 252 of the 252 bytes of shared memory",
    ),
    "16 bytes at an address of 4": (3, "thread 0 of block 0 makes a misaligned access"),
    "a copy nobody waited for": (4, "thread 0 of block 0 ends before its copies to shared memory"),
    "more shared memory than there is": (6, "invalid argument or configuration"),
}


@pytest.fixture
def library() -> ctypes.CDLL:
    sources = "tests/cuda/mistakes.cu", "csrc/cuda/device.cu"
    library = ctypes.CDLL(str(emulated_cuda.build("mistakes", *sources)))
    library.dnc_cuda_error_text.restype = ctypes.c_char_p
    library.wavefronts.restype = ctypes.c_int64
    return library


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_found(name: str, library: ctypes.CDLL) -> None:
    number, message = MISTAKES[name]
    data = torch.zeros(512)
    error = library.run(number, ctypes.c_void_p(data.data_ptr()))
    assert re.fullmatch(message, library.dnc_cuda_error_text(error).decode())


def test_copies_arrive_when_waited_for(library: ctypes.CDLL) -> None:
    data = torch.arange(512.0)
    assert library.run(5, ctypes.c_void_p(data.data_ptr())) == 0
    assert data[256].isnan()
    assert data[257] == 252


@pytest.mark.parametrize(("words", "turns"), [(0, 1), (1, 1), (2, 2), (8, 8), (31, 1), (32, 32)])
def test_wavefronts_of_a_strided_access(words: int, turns: int, library: ctypes.CDLL) -> None:
    assert library.wavefronts(words) == turns

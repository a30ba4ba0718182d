"""Which OpenMP runtimes are loaded, read from a process map."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from dnc_sparse.backends import openmp

LINE = "7f00-7f01 r-xp 00000000 fe:00 1234    {}\n"


def test_runtimes_are_found_by_file(tmp_path: Path) -> None:
    files = [
        "/a/torch/lib/libgomp-a34b3233.so.1",
        "/a/torch/lib/libgomp-a34b3233.so.1",
        "/b/libiomp5.so",
        "/c d/libomp.so.5",
        "/usr/lib/libc.so.6",
        "/usr/lib/libcompress.so",
    ]
    maps = tmp_path / "maps"
    maps.write_text("".join(map(LINE.format, files)) + "7f02-7f03 rw-p 00000000 00:00 0 \n")
    loaded = openmp.runtimes(maps)
    assert [str(path) for path in loaded] == [files[0], files[2], files[3]]


def test_no_map_no_runtimes(tmp_path: Path) -> None:
    assert openmp.runtimes(tmp_path / "none") == []


def test_conflict_names_the_files_and_the_way_out() -> None:
    assert openmp.conflict([]) is None
    assert openmp.conflict([Path("/a/libgomp.so.1")]) is None
    message = openmp.conflict([Path("/a/libgomp.so.1"), Path("/b/libomp.so")])
    assert message is not None
    assert message.startswith("2 OpenMP runtimes are loaded (/a/libgomp.so.1, /b/libomp.so); each")
    assert "reinstall" in message


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/self/maps")
def test_runtimes_of_this_process_are_files() -> None:
    torch.ones(4, 4) @ torch.ones(4, 4)
    assert all(path.is_file() for path in openmp.runtimes())

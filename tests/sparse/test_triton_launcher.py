"""Triton's own launcher hands each kernel to the driver as the backend means it; no GPU needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_launches_arrive_at_the_driver(tmp_path: Path) -> None:
    triton, compiler = pytest.importorskip("triton"), shutil.which("gcc")
    source = ROOT / "tests/cuda/driver.c"
    if compiler is None or not source.exists():
        pytest.skip("the stub of a driver needs gcc and tests/cuda")
    include = Path(triton.__file__).parent / "backends/nvidia/include"
    flags = ("-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-isystem", str(include))
    subprocess.run([compiler, *flags, str(source), "-o", tmp_path / "libcuda.so.1"], check=True)
    folder = str(tmp_path)
    environment = os.environ | {"TRITON_LIBCUDA_PATH": folder, "LD_LIBRARY_PATH": folder}
    # kernels are compiled, not interpreted
    environment.pop("TRITON_INTERPRET", None)
    paths = (str(ROOT), os.environ.get("PYTHONPATH"))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    script = str(Path(__file__).with_name("triton_launcher.py"))
    done = subprocess.run(
        [sys.executable, script, folder],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    launches = {row["kernel"]: row for row in map(json.loads, done.stdout.splitlines())}
    counts = {kernel: row["launches"] for kernel, row in launches.items()}
    # the parts of a batch are added up by a kernel of its own
    assert counts == {"streamed": 1, "resident": 1, "separate": 2, "fused": 1}
    for kernel, row in launches.items():
        for what in ("blocks", "threads", "pointer"):
            asked, meant = row[what]
            assert asked == meant, (kernel, what)
        assert 0 < row["shared_bytes"][0] <= row["shared_bytes"][1], kernel

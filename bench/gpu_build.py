"""Build `dnc_sparse._cuda` for Hopper beside the package, where it is not installed yet.

A build that leaves the CUDA kernels out is a failure. `--dry-run` prints the commands only.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pybind11
from gpu_prepare import FOLDER, ROOT

IMPORT = (sys.executable, "-c", "import dnc_sparse._cuda; print(dnc_sparse._cuda.__file__)")


def commands() -> list[tuple[str, ...]]:
    """Return how it is configured, built and tried."""
    folder = str(FOLDER / "cmake")
    options = {
        "DNC_CUDA": "ON",
        "CMAKE_CUDA_ARCHITECTURES": "90a-real",
        "CMAKE_LIBRARY_OUTPUT_DIRECTORY": str(ROOT / "dnc_sparse"),
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    defined = (f"-D{name}={value}" for name, value in options.items())
    return [
        ("cmake", "-S", str(ROOT), "-B", folder, "-G", "Ninja", *defined),
        ("cmake", "--build", folder, "--target", "_cuda", "-j", str(os.cpu_count() or 1)),
        IMPORT,
    ]


def main() -> None:
    """Build; exit with the code of the first command that fails."""
    dry = "--dry-run" in sys.argv[1:]
    if not dry and subprocess.run(IMPORT, stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return
    for command in commands():
        sys.stdout.write(shlex.join(command) + "\n")
        sys.stdout.flush()
        code = 0 if dry else subprocess.run(command, check=False).returncode
        if code:
            raise SystemExit(code)


if __name__ == "__main__":
    main()

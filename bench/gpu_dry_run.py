"""A machine without a card that looks like one with a card, for a dry run of `bench/gpu.py`.

Kernels are the emulator's (tests/cuda) and Triton's interpreter, and programs of the driver are
shell scripts that a folder at the front of the PATH holds.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gpu_prepare import LIBRARIES, ROOT

PROGRAMS = {
    # a list of processes is empty
    "nvidia-smi": 'case "$*" in *query*) ;; *) echo "a stub, no driver";; esac',
    # its options, each with a value, then the command
    "compute-sanitizer": 'while [ "${1#-}" != "$1" ]; do shift 2; done; exec "$@"',
}


def set_up(folder: Path) -> dict[str, str]:
    """Put libraries and programs into a folder, and return the environment's changes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    for name in LIBRARIES:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(_emulated_library())
    return {
        "TRITON_INTERPRET": "1",
        # also where there is a card
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        # what the planner measures here is nobody's concern
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PATH_FIRST": str(folder),
    }


def _emulated_library() -> Path:
    sys.path.insert(0, str(ROOT / "tests"))
    import emulated_cuda

    return emulated_cuda.library()

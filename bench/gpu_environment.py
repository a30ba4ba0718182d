"""What a machine with a card is: one JSON line of programs and versions, one of the card."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

PROGRAMS = ("nvidia-smi", "nvcc", "git", "g++", "cmake", "ninja", "compute-sanitizer")
PACKAGES = ("torch", "triton", "numpy", "pytest", "pybind11", "pooch", "platformdirs", "dnc-sparse")


def installed(package: str) -> str | None:
    """Return a package's version; None where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def card() -> dict[str, object]:
    """Return what torch says of the first card. Raises RuntimeError where there is none."""
    if not torch.cuda.is_available():
        raise RuntimeError("torch finds no CUDA device")
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 1e9),
        "l2_mb": round(properties.L2_cache_size / 1e6),
    }


def main() -> None:
    """Print both lines and what nvidia-smi shows; with `--device cpu` no card is asked for."""
    machine = {"python": platform.python_version(), "cuda": torch.version.cuda}
    machine |= {name: installed(name) for name in PACKAGES}
    machine |= {program: shutil.which(program) for program in PROGRAMS}
    sys.stdout.write(json.dumps(machine) + "\n")
    sys.stdout.flush()
    if machine["nvidia-smi"]:
        subprocess.run(["nvidia-smi"], check=False)
    if sys.argv[1:] != ["--device", "cpu"]:
        sys.stdout.write(json.dumps(card()) + "\n")


if __name__ == "__main__":
    main()

"""What travels to a machine with a card that has no package index, no git and no time: build/gpu.

    python bench/gpu_prepare.py [--text FILE]

Builds the CUDA kernels as plain C libraries for Hopper, which serve any Python: `libdnc_cuda.so`
and `libdnc_watchdog.so` (csrc/cuda/watchdog.cuh). `site` holds the pure Python packages that a
machine for deep learning lacks and this package's name and version; on the PYTHONPATH it needs no
installation. `commit` says what the working tree is of, `text` holds what the language model
learns. What is up to date is not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build/gpu"
SITE = FOLDER / "site"
LIBRARIES = {"libdnc_cuda.so": (), "libdnc_watchdog.so": ("-DDNC_WATCHDOG",)}
PACKAGES = ("pooch", "platformdirs")
COMPILER = (
    *("nvcc", "-O3", "-std=c++17", "-shared", "-t0", "-Xcompiler=-fPIC,-fvisibility=hidden"),
    *("-cudart", "static", "-gencode=arch=compute_90a,code=sm_90a"),
)
# where NVIDIA's packages put programs that need not be on the PATH
CUDA_BIN = "/usr/local/cuda/bin"


def commit() -> str:
    """Return the commit at hand, with `+` if changed; without git as prepared, or "unknown"."""
    head, changes = _git("rev-parse", "--short", "HEAD"), _git("status", "--porcelain")
    if head:
        return head + "+" * bool(changes)
    file = FOLDER / "commit"
    return file.read_text().strip() if file.exists() else "unknown"


def sources_state() -> str:
    """Return a digest of the kernels' sources and of how they are compiled."""
    digest = hashlib.sha256(" ".join(COMPILER).encode())
    for path in sorted((ROOT / "csrc/cuda").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def libraries() -> None:
    """Build the libraries whose sources have changed, at once. Raises RuntimeError without nvcc."""
    state, file = sources_state(), FOLDER / "sources"
    built = all((FOLDER / name).exists() for name in LIBRARIES)
    if built and file.exists() and file.read_text() == state:
        return
    compiler = shutil.which("nvcc", path=f"{os.environ['PATH']}:{CUDA_BIN}")
    if compiler is None:
        raise RuntimeError(
            f"{FOLDER} lacks libraries of these sources, and no nvcc is here to build them; run "
            f"bench/gpu_prepare.py where one is, and bring the folder"
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    sources = sorted(map(str, (ROOT / "csrc/cuda").glob("*.cu")))
    running = [
        subprocess.Popen([compiler, *COMPILER[1:], *flags, *sources, "-o", str(FOLDER / name)])
        for name, flags in LIBRARIES.items()
    ]
    # both, before one of them is told
    codes = [process.wait() for process in running]
    if any(codes):
        raise RuntimeError("nvcc failed; its words are above")
    file.write_text(state)


def site() -> None:
    """Put the packages and the package's own name and version into one folder."""
    if not all((SITE / name).exists() for name in PACKAGES):
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        pip += ["--no-deps", "--only-binary", ":all:", "--target", str(SITE)]
        subprocess.run([*pip, *PACKAGES], check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    information = SITE / f"dnc_sparse-{project['version']}.dist-info"
    information.mkdir(parents=True, exist_ok=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )


def main() -> None:
    """Make everything; with `--libraries` only these, with `--dry-run` nothing."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--libraries", action="store_true")
    options.add_argument("--dry-run", action="store_true")
    options.add_argument("--text", type=Path, help="what the language model is to learn")
    asked = options.parse_args()
    if asked.dry_run:
        return
    if asked.text is not None:
        shutil.rmtree(FOLDER / "text", ignore_errors=True)
        (FOLDER / "text").mkdir(parents=True)
        shutil.copy(asked.text, FOLDER / "text")
    libraries()
    if not asked.libraries:
        site()
        (FOLDER / "commit").write_text(commit() + "\n")
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    sys.stdout.write(json.dumps({"folder": str(FOLDER), "mb": round(size / 1e6, 1)}) + "\n")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


if __name__ == "__main__":
    main()

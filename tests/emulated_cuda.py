"""dnc_sparse._cuda with its kernels compiled by g++ for the emulator of tests/cuda."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from functools import cache
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType

import pybind11
import pytest

ROOT = Path(__file__).parent.parent
FLAGS = (
    # _FORTIFY_SOURCE takes the jumps between fibers for a broken stack
    *("-std=c++17", "-O2", "-U_FORTIFY_SOURCE", "-fPIC", "-shared", "-DDNC_EMULATED"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
)


@cache
def emulated_cuda() -> ModuleType:
    """Build and load the module once, or skip where there is no g++."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the kernels for the emulator")
    folder = Path(mkdtemp())
    library = folder / "_cuda.so"
    sources = [*(ROOT / "csrc/cuda").glob("*.cu"), *(ROOT / "csrc").glob("bindings_cuda*.cpp")]
    folders = [ROOT / "csrc", ROOT / "csrc/cuda", ROOT / "tests/cuda", pybind11.get_include()]
    includes = [f"-I{path}" for path in (*folders, sysconfig.get_path("include"))]
    command = ["g++", *FLAGS, *includes, "-x", "c++", *map(str, sources), "-o", str(library)]
    subprocess.run(command, check=True)
    loader = ExtensionFileLoader("dnc_sparse._cuda", str(library))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    shutil.rmtree(folder)
    return module

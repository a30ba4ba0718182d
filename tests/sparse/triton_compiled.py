"""Compile the Triton kernels for GPUs that need not be here: `python triton_compiled.py`.

The backend runs on meta tensors and its launches only compile, so that what is measured is what a
GPU would be given. Prints a table, or with --json one record a line.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from dnc_sparse import kernels
from dnc_sparse.backends import triton as backend
from dnc_sparse.backends.tile_model import cycles, products
from dnc_sparse.backends.tiles import FunctionName, Gpu, Tile, fitting
from dnc_sparse.patterns import Pattern, clash_free, cyclic

GPUS = {80: Gpu((8, 0), 108), 90: Gpu((9, 0), 132), 100: Gpu((10, 0), 148)}
NEURONS, BATCH = 4096, 16384
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"


@dataclass(frozen=True)
class Compiled:
    """One kernel for one GPU: what it takes of the chip and which instructions do its work."""

    dtype: str
    block: int
    pattern: str
    function: str
    kernel: str
    gpu: int
    tile: str
    shared_bytes: int
    expected_bytes: int
    limit_bytes: int
    threads: int
    together: int
    registers: int
    stack_bytes: int
    wgmma: int
    wgmma_columns: list[int]
    expected_columns: list[int]
    wgmma_in_sass: int
    wgmma_waits: int
    tcgen05: int
    mma_sync: int
    copies_of_16_bytes: int
    smaller_copies: int


@dataclass(frozen=True)
class Setting:
    """What to compile: a function of a 4096 -> 4096 junction by a kernel's tiles, the best first.

    The first is compiled only, unless it is `every` tile.
    """

    dtype: str
    block: int
    inverse_density: int
    function: FunctionName
    kernel: str
    gpu: int = 90
    family: str = "clash_free"
    every: bool = False

    def compile(self) -> Iterator[Compiled]:
        """Compile the kernel as the backend launches it, and measure what came out."""
        pattern, dtype = self.pattern(), getattr(torch, self.dtype.partition(" ")[0])
        ieee = self.dtype == "float32 IEEE"
        torch.backends.cuda.matmul.fp32_precision = "ieee" if ieee else "tf32"
        gpu, item = GPUS[self.gpu], dtype.itemsize
        fits = fitting(self.function, pattern, dtype, BATCH, gpu, ieee)
        fits.sort(key=lambda one: cycles(*one, item, BATCH, gpu, ieee))
        tiles = [tile for tile, _ in fits if tile.kernel == self.kernel]
        for tile in tiles if self.every else tiles[:1]:
            compiler = Compiler(self.gpu)
            triton.runtime.driver.set_active(compiler)
            backend._module = compiler.module  # type: ignore[assignment]
            _launch(self.function, tile, pattern, dtype)
            yield self.measured(compiler.compiled[0], tile, item)

    def pattern(self) -> Pattern:
        """Draw the junction's pattern."""
        family = {"clash_free": clash_free, "cyclic": cyclic}[self.family]
        return family(NEURONS, NEURONS, density=1 / self.inverse_density, block=self.block, seed=1)

    def measured(self, kernel: Any, tile: Tile, item: int) -> Compiled:
        """Read registers, stack and waits from the machine code, instructions from the PTX."""
        ptx = kernel.asm["ptx"]
        with tempfile.TemporaryDirectory() as folder:
            binary = Path(folder, "kernel.cubin")
            binary.write_bytes(kernel.asm["cubin"])
            sass = _cuobjdump("-res-usage", "-sass", binary)
        match = re.search(r"REG:(\d+) STACK:(\d+)", sass)
        assert match, sass
        registers, stack = map(int, match.groups())
        columns = {int(n) for n in re.findall(r"wgmma\.mma_async\S*\.m64n(\d+)k", ptx)}
        # fewer rows or columns take other instructions
        expected = {
            product.instruction_columns
            for product in products(tile)
            if product.rows >= 64 and product.columns >= 16
        }
        gpu = GPUS[self.gpu]
        copies = re.findall(r"cp\.async\.c[ag]\.shared\.global [^;]*\], (0x\w+|\d+)", ptx)
        full = sum(int(size, 0) == 16 for size in copies)
        return Compiled(
            self.dtype, self.block, f"{self.family} 1/{self.inverse_density}",
            self.function, self.kernel, self.gpu,
            f"{tile.tokens}x{tile.width}x{tile.depth} w{tile.warps} s{tile.stages} p{tile.parts}",
            kernel.metadata.shared, tile.shared_bytes(item, gpu), gpu.shared_bytes,
            32 * tile.warps, tile.together(item, gpu, self.dtype == "float32 IEEE"),
            registers, stack,
            ptx.count("wgmma.mma_async"), sorted(columns), sorted(expected),
            sass.count("HGMMA"), sass.count("WARPGROUP.DEPBAR"),
            ptx.count("tcgen05.mma.cta"), ptx.count("mma.sync.aligned.m"), full, len(copies) - full,
        )  # fmt: skip


def _cuobjdump(*arguments: str | Path) -> str:
    # it looks for nvdisasm there
    environment = os.environ | {"PATH": os.pathsep.join((str(TOOLS), os.environ["PATH"]))}
    command = [TOOLS / "cuobjdump", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return run.stdout


class Compiler(DriverBase):
    """A driver without a device: launches of the kernels only compile, for the GPU it names."""

    def __init__(self, gpu: int) -> None:
        super().__init__()
        self.gpu = gpu
        self.compiled: list[Any] = []

    @classmethod
    def is_active(cls) -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.gpu, 32)

    def get_current_device(self) -> int:
        # Triton keeps what it compiled per device
        return self.gpu

    def get_active_torch_device(self) -> torch.device:
        return torch.device("meta")

    def get_device_interface(self) -> Any:
        raise NotImplementedError

    def get_current_stream(self, device: int) -> int:
        return 0

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_benchmarker(self) -> Any:
        raise NotImplementedError

    def module(self) -> Any:
        """Return the kernels, their launches recorded here."""
        names = kernels.__all__
        return SimpleNamespace(**{name: _Recorder(self, name) for name in names})


class _Recorder:
    def __init__(self, compiler: Compiler, name: str) -> None:
        self.compiler, self.name = compiler, name

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **constants: Any) -> None:
            kernel = getattr(kernels, self.name).warmup(*arguments, grid=grid, **constants)
            self.compiler.compiled.append(kernel)

        return launch


def _launch(function: str, tile: Tile, pattern: Pattern, dtype: torch.dtype) -> None:
    def meta(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    x, grad_y = meta(BATCH, pattern.n_in), meta(BATCH, pattern.n_out)
    weight, bias = meta(*pattern.weight_shape), meta(pattern.n_out)
    if function == "forward":
        backend.product(tile, x, weight, bias, pattern, relu=True)
    elif function == "grad_input":
        backend.product(tile, grad_y, weight, None, pattern, transposed=True)
    else:
        fused = weight if function == "backward" else None
        backend.gradients(tile, grad_y, x, fused, pattern, bias=True)


def settings() -> Iterator[Setting]:
    """Give what is compiled: every kernel at every block for Hopper, each once elsewhere."""
    for block in (16, 32, 64, 128):
        yield Setting("bfloat16", block, 8, "grad_input", "streamed")
        yield Setting("bfloat16", block, 8, "grad_weight", "separate")
    for block, inverse_density in ((16, 8), (32, 16), (64, 16), (64, 8), (128, 16)):
        yield Setting("bfloat16", block, inverse_density, "forward", "resident")
        # every tile, for the model counts what both its products compile to
        yield Setting("bfloat16", block, inverse_density, "backward", "fused", every=block < 128)
    yield Setting("bfloat16", 8, 8, "forward", "streamed")
    yield Setting("bfloat16", 32, 8, "forward", "streamed", family="cyclic")
    yield Setting("bfloat16", 32, 8, "grad_input", "streamed", family="cyclic")
    for dtype in ("float32 TF32", "float32 IEEE"):
        yield Setting(dtype, 64, 8, "forward", "streamed")
        yield Setting(dtype, 64, 8, "grad_weight", "separate")
    for gpu in (80, 100):
        yield Setting("bfloat16", 64, 8, "forward", "streamed", gpu)
        yield Setting("bfloat16", 32, 16, "grad_input", "resident", gpu)
        yield Setting("bfloat16", 32, 16, "backward", "fused", gpu)
        yield Setting("bfloat16", 128, 8, "grad_weight", "separate", gpu)


def main() -> None:
    """Compile everything and print it."""
    compiled = [one for setting in settings() for one in setting.compile()]
    if "--json" in sys.argv[1:]:
        lines = [json.dumps(asdict(one)) for one in compiled]
    else:
        rows = [[field.name for field in fields(Compiled)]]
        rows += [[str(value) for value in asdict(one).values()] for one in compiled]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
            for row in rows
        ]
    sys.stdout.write("\n".join([f"Triton {triton.__version__}", *lines, ""]))


if __name__ == "__main__":
    main()

"""Launch every Triton kernel through Triton's own launcher on a driver that runs nothing.

    python triton_launcher.py FOLDER        where FOLDER holds tests/cuda/driver.c as libcuda.so.1

Kernels are compiled for Hopper as on a card, and their arguments take the same way into C. One JSON
line a kernel: what its first launch asked of the driver, beside what it should.
"""

from __future__ import annotations

import ctypes
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
import triton
from triton.backends.nvidia.driver import CudaDriver

from dnc_sparse.backends import tiles
from dnc_sparse.backends import triton as backend
from dnc_sparse.backends.tiles import FunctionName
from dnc_sparse.patterns import clash_free, cyclic

FULL_BATCH, BATCH, NEURONS = 16384, 300, 512
# in two parts another kernel adds them up
CASES: tuple[tuple[FunctionName, str, str, int], ...] = (
    ("forward", "streamed", "cyclic", 1),
    ("grad_input", "resident", "clash_free", 1),
    ("grad_weight", "separate", "clash_free", 2),
    ("backward", "fused", "clash_free", 1),
)


def pretend(folder: Path) -> ctypes.CDLL:
    """Make Triton and torch believe in a Hopper card, driven by the library of the folder."""
    stub = ctypes.CDLL(str(folder / "libcuda.so.1"), mode=ctypes.RTLD_GLOBAL)
    stub.stub_sizes.restype = ctypes.POINTER(ctypes.c_uint)
    stub.stub_pointer.restype = ctypes.c_uint64
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    torch.cuda.current_device = lambda: 0
    torch.cuda.current_stream = lambda device=None: SimpleNamespace(cuda_stream=0)
    triton.runtime.driver.set_active(CudaDriver())
    return stub


def main() -> None:
    """Launch one tile of each function."""
    stub = pretend(Path(sys.argv[1]))
    device, dtype = torch.device("cpu"), torch.bfloat16
    for function, kernel, family, parts in CASES:
        draw = {"cyclic": cyclic, "clash_free": clash_free}[family]
        pattern = draw(NEURONS, NEURONS, density=1 / 4, block=64, seed=1)
        x, weight = torch.zeros(BATCH, NEURONS), torch.zeros(pattern.weight_shape)
        x, weight = x.to(dtype), weight.to(dtype)
        ranked = backend.ranked(function, pattern, dtype, FULL_BATCH, device)
        tile = replace(next(tile for _, tile in ranked if tile.kernel == kernel), parts=parts)
        arguments = {
            "forward": (x, weight, x[0].clone(), pattern, True),
            "grad_input": (x, weight, pattern),
            "grad_weight": (x, x, pattern),
            "backward": (x, x, weight, pattern, True),
        }[function]
        backend.run(function, tile, arguments)
        owner = tiles.side_of(pattern, function == "grad_input" or not tile.by_row)
        programs = -(-BATCH // tile.tokens) if kernel == "streamed" else parts
        predicted = tile.shared_bytes(dtype.itemsize, backend.INTERPRETED)
        blocks, threads, shared_bytes = stub.stub_sizes()[:3]
        record = {
            "kernel": kernel,
            "launches": stub.stub_launches(),
            "blocks": [blocks, tiles.units_of(tile, owner) * programs],
            "threads": [threads, 32 * tile.warps],
            "shared_bytes": [shared_bytes, predicted],
            "pointer": [stub.stub_pointer(), x.data_ptr()],
        }
        sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()

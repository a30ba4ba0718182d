"""The block kernels by their plain C interface, csrc/cuda/blocks.h, and what they should compute.

Nothing of the package is imported, so that a library built for no particular Python serves.

| name    | meaning                                       | shape                           |
|---------|-----------------------------------------------|---------------------------------|
| b       | side of a block                               |                                 |
| sources | left block column of each block               | [rows, slots]                   |
| targets | row * slots + slot, by left block column      | [columns, degree]               |
| x       | activations                                   | [batch, columns * b]            |
| weight  | blocks of weights                             | [rows, slots, b, b]             |
| y       | ReLU(x W^T + bias)                            | [batch, rows * b]               |
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_int64, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FUNCTIONS = ("forward", "grad_input", "backward", "grad_weight")
DTYPES = {torch.bfloat16: 1, torch.float16: 2}


@dataclass(frozen=True)
class Junction:
    """A junction in blocks, and the samples that go through it."""

    block: int
    rows: int
    columns: int
    slots: int
    batch: int
    dtype: torch.dtype

    @property
    def degree(self) -> int:
        """Blocks of a left block column."""
        return self.rows * self.slots // self.columns

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return sources and targets, shifted copies of one permutation."""
        order = np.random.default_rng(0).permutation(self.columns)
        shifts = np.arange(self.rows)[:, None] * self.slots + np.arange(self.slots)
        sources = np.sort(order[shifts % self.columns], axis=1).astype(np.int32)
        places = [np.flatnonzero(sources.reshape(-1) == column) for column in range(self.columns)]
        targets = np.stack(places).astype(np.int32)
        return torch.from_numpy(sources), torch.from_numpy(targets)


class _Place(ctypes.Structure):
    _fields_ = (("device", c_int), ("stream", c_void_p))


class _Blocks(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("block", "rows", "slots", "columns", "degree")),
        *((name, c_void_p) for name in ("sources", "targets")),
    )


class Library:
    """A library of the kernels: real ones, with a watchdog or without, or emulated ones."""

    def __init__(self, path: Path) -> None:
        """Load the library. Raises OSError where that fails."""
        self.c = ctypes.CDLL(str(path.resolve()))
        self.c.dnc_cuda_error_text.restype = c_char_p
        self.c.dnc_blocks_workspace_bytes.restype = c_int64

    def multiprocessors(self) -> int:
        """Return how many the device has. Raises RuntimeError with the driver's words."""
        values = (c_int * 3)()
        at = [ctypes.byref(values, 4 * i) for i in range(3)]
        self.check(self.c.dnc_cuda_properties(c_int(0), *at))
        return values[1]

    def check(self, error: int) -> None:
        """Raise RuntimeError with the text of an error, if it is one."""
        if error:
            raise RuntimeError(self.c.dnc_cuda_error_text(c_int(error)).decode())

    def stuck(self) -> str | None:
        """Say which wait the watchdog gave up since the last call; None without one, or none."""
        if not hasattr(self.c, "dnc_stuck"):
            return None
        wait = c_uint64()
        self.check(self.c.dnc_stuck(ctypes.byref(wait)))
        return described(wait.value)


def described(wait: int) -> str | None:
    """Return what csrc/cuda/watchdog.cuh noted, in words; None for nothing."""
    if not wait:
        return None
    block, thread = wait >> 40 & 0xFFFF, wait >> 24 & 0xFFFF
    barrier, parity = wait >> 2 & 0x3FFFF, wait & 1
    return (
        f"thread {thread} of block {block} waits for the mbarrier at {barrier:#x}, parity {parity}"
    )


class Task:
    """A function of a junction on a device, ready to run; inputs are -2, -1, 1 and 2."""

    def __init__(
        self,
        library: Library,
        function: str,
        junction: Junction,
        device: str,
        multiprocessors: int,
    ) -> None:
        self.library, self.function, self.junction = library, function, junction
        j, b, generator = junction, junction.block, torch.Generator().manual_seed(1)

        def draw(*shape: int) -> Tensor:
            numbers = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=j.dtype)
            return numbers[torch.randint(0, 4, shape, generator=generator)].to(device)

        self.sources, self.targets = (table.to(device) for table in j.tables())
        self.x, self.grad_y = draw(j.batch, j.columns * b), draw(j.batch, j.rows * b)
        self.weight, self.bias = draw(j.rows, j.slots, b, b), draw(j.rows * b)
        self.y, self.grad_x = torch.empty_like(self.grad_y), torch.empty_like(self.x)
        self.grad_weight, self.grad_bias = map(torch.empty_like, (self.weight, self.bias))
        addresses = self.sources.data_ptr(), self.targets.data_ptr()
        self._blocks = _Blocks(b, j.rows, j.slots, j.columns, j.degree, *addresses)
        self._multiprocessors = c_int(multiprocessors)
        size = library.c.dnc_blocks_workspace_bytes(
            self._multiprocessors, ctypes.byref(self._blocks), c_int64(j.batch)
        )
        self._workspace = torch.empty(size, dtype=torch.uint8, device=device)
        stream = torch.cuda.current_stream().cuda_stream if device == "cuda" else 0
        self._place = _Place(0, stream)

    def run(self) -> None:
        """Start the kernels. Raises RuntimeError when they do not start."""
        c, j = self.library.c, self.junction
        blocks = ctypes.byref(self._blocks)
        head = self._place, c_int(DTYPES[j.dtype]), self._multiprocessors, blocks
        x = _at(self.x), c_int64(j.columns * j.block)
        grad_y = _at(self.grad_y), c_int64(j.rows * j.block)
        batch = c_int64(j.batch)
        if self.function == "forward":
            y = _at(self.weight), _at(self.bias), c_int(1), _at(self.y)
            error = c.dnc_blocks_forward(*head, *x, *y, batch)
        elif self.function == "grad_input":
            error = c.dnc_blocks_grad_input(
                *(*head, *grad_y, _at(self.weight), _at(self.grad_x), batch)
            )
        else:
            with_input = self.function == "backward"
            products = [_at(t) if with_input else None for t in (self.weight, self.grad_x)]
            sums = _at(self.grad_weight), _at(self.grad_bias), _at(self._workspace)
            error = c.dnc_blocks_backward(*head, *grad_y, *x, *products, *sums, batch)
        self.library.check(error)

    def results(self) -> dict[str, Tensor]:
        """Return what the function writes, by name."""
        names: dict[str, tuple[str, ...]] = {"forward": ("y",), "grad_input": ("grad_x",)}
        names |= {"grad_weight": ("grad_weight", "grad_bias")}
        names |= {"backward": (*names["grad_weight"], "grad_x")}
        return {name: getattr(self, name) for name in names[self.function]}

    def expected(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return the same by dense products in another dtype, rounded to the junction's."""
        j, b = self.junction, self.junction.block
        x, grad_y, weight, bias = (
            t.to(dtype) for t in (self.x, self.grad_y, self.weight, self.bias)
        )
        row, source = torch.arange(j.rows)[:, None], self.sources.cpu().long()
        blocks = weight.new_zeros(j.rows, j.columns, b, b)
        blocks[row, source] = weight
        dense = blocks.transpose(1, 2).reshape(j.rows * b, j.columns * b)

        def every_gradient() -> Tensor:
            return (grad_y.mT @ x).view(j.rows, b, j.columns, b).transpose(1, 2)[row, source]

        values: dict[str, Callable[[], Tensor]] = {
            "y": lambda: (x @ dense.mT + bias).clamp(min=0),
            "grad_x": lambda: grad_y @ dense,
            "grad_weight": every_gradient,
            "grad_bias": lambda: grad_y.sum(0),
        }
        return {name: values[name]().to(j.dtype) for name in self.results()}


def _at(tensor: Tensor) -> c_void_p:
    return c_void_p(tensor.data_ptr())

"""Triton kernels for NVIDIA GPUs: blocks whose sides are powers of two from 8 on.

Activations may have any distance between samples; results are contiguous. Sums are kept in float32
in an order that is fixed for a shape and a GPU model. Nothing waits for the GPU but the first call
with a pattern, which copies its tables. float32 is multiplied as `torch.matmul` does: IEEE unless
`torch.backends.cuda.matmul.fp32_precision` (or an older switch) says TF32. `candidates` lists the
tiles worth racing; the functions take the first.

With TRITON_INTERPRET=1 set before the first use, Triton runs the same kernels on CPU tensors.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from dnc_sparse.backends import tiles
from dnc_sparse.backends.compiled import packed, plain
from dnc_sparse.backends.padded import on_padded_rows
from dnc_sparse.backends.tile_model import cycles
from dnc_sparse.backends.tiles import FunctionName, Gpu, Side, Tile
from dnc_sparse.extras import install_line, is_installed
from dnc_sparse.patterns import Pattern
from dnc_sparse.patterns.banked import cyclic_rule

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
OLDEST_CAPABILITY = (8, 0)
SMALLEST_SIDE = 8
# where there is no GPU the interpreter's tiles are chosen as for this one
INTERPRETED = Gpu((9, 0), 4)
TOTAL_WIDTH = 1024
# what `backward` does where it has no tile
SEPARATE: tuple[FunctionName, ...] = ("grad_input", "grad_weight")
# more would be compiled and raced for little
MOST_CANDIDATES = 4
# tiles are chosen per power of two of the batch, up to this
MOST_PLANNED_BATCH = 2**16


@cache
def _kernels() -> ModuleType | None:
    """Import the kernels; None where Triton is not installed. A broken one raises."""
    if not is_installed("triton"):
        return None
    return import_module("dnc_sparse.kernels")


@cache
def _interpreted() -> bool:
    """Whether Triton runs the kernels on the CPU, which it decides when they are imported."""
    return not isinstance(_module().streamed, import_module("triton").JITFunction)


def _module() -> ModuleType:
    kernels = _kernels()
    if kernels is None:
        raise RuntimeError(f"backend 'triton' cannot run here: {unavailable()}")
    return kernels


def unavailable(
    device: str | None = None,
    dtype: torch.dtype | None = None,
    block: tuple[int, int] | None = None,
) -> str | None:
    """Why this backend cannot run (here, or on these); None when it can."""
    if _kernels() is None:
        return f"Triton is not installed; {install_line('triton')} (Linux only)"
    wanted = "cpu" if _interpreted() else "cuda"
    if device not in (None, wanted):
        return f"it computes on {wanted!r} tensors, not on {device!r}"
    if dtype is not None and dtype not in DTYPES:
        return f"{dtype} is not among its dtypes: {', '.join(map(str, DTYPES))}"
    if block is not None and not all(map(_served, block)):
        return f"block {block[0]}x{block[1]} has a side that is not a power of two from 8 on"
    if _interpreted():
        # it multiplies their bit patterns
        return "Triton's interpreter gets bfloat16 wrong" if dtype == torch.bfloat16 else None
    return _no_gpu()


def _served(side: int) -> bool:
    return side >= SMALLEST_SIDE and side & (side - 1) == 0


@cache
def _no_gpu() -> str | None:
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    oldest = min(torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))
    if oldest < OLDEST_CAPABILITY:
        return f"a GPU here has compute capability {oldest[0]}.{oldest[1]}; it needs 8.0"
    return None


@on_padded_rows
def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias, negative ones as zero with `relu`: [batch, n_out]."""
    return product(None, x, weight, bias, pattern, relu)


@on_padded_rows
def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return grad_y W: [batch, n_in]."""
    return product(None, grad_y, weight, None, pattern, transposed=True)


@on_padded_rows
def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return each edge's share of grad_y^T x, zero in empty slots: [rows, slots, bo, bi]."""
    return gradients(None, grad_y, x, None, pattern, False)[1]


@on_padded_rows
def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients in x, weight and, if asked, bias."""
    fused = _favourite("backward", pattern, x)
    grad_x, grad, grad_bias = gradients(fused, grad_y, x, weight if fused else None, pattern, bias)
    return grad_input(grad_y, weight, pattern) if grad_x is None else grad_x, grad, grad_bias


def candidates(
    function: FunctionName, pattern: Pattern, dtype: torch.dtype, batch: int, device: torch.device
) -> tuple[Tile, ...]:
    """Return the tiles worth racing for a function on a device, the favourite first.

    They are for `run`. `backward` has none where grad_input and grad_weight one after the other
    should take no longer.
    """
    best = ranked(function, pattern, dtype, batch, device)
    if function == "backward":
        first, second = (ranked(f, pattern, dtype, batch, device) for f in SEPARATE)
        best = [one for one in best if one[0] < first[0][0] + second[0][0]]
    return tuple(tile for _, tile in best[:MOST_CANDIDATES])


def ranked(
    function: FunctionName, pattern: Pattern, dtype: torch.dtype, batch: int, device: torch.device
) -> list[tuple[float, Tile]]:
    """Return all tiles that fit a device, by the cycles that they should take, with these."""
    gpu, ieee = _gpu(device), _ieee(dtype)
    fitting = tiles.fitting(function, pattern, dtype, batch, gpu, ieee)
    timed = [(cycles(*one, dtype.itemsize, batch, gpu, ieee), one[0]) for one in fitting]
    return sorted(timed, key=lambda one: one[0])


def run(function: FunctionName, tile: Tile, arguments: tuple[Any, ...]) -> Any:
    """Return a function's value, by one of its candidates; the arguments are the function's."""
    if function == "forward":
        return product(tile, *arguments)
    if function == "grad_input":
        grad_y, weight, pattern = arguments
        return product(tile, grad_y, weight, None, pattern, transposed=True)
    if function == "grad_weight":
        grad_y, x, pattern = arguments
        return gradients(tile, grad_y, x, None, pattern, False)[1]
    return gradients(tile, *arguments)


def product(
    tile: Tile | None,
    gathered: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    pattern: Pattern,
    relu: bool = False,
    transposed: bool = False,
) -> Tensor:
    """Compute `forward` or, transposed, `grad_input` with a tile, or else with the favourite."""
    gathered = _rows(gathered)
    batch, device = gathered.shape[0], gathered.device
    owned = gathered.new_empty(batch, pattern.n_in if transposed else pattern.n_out)
    if batch == 0:
        return owned
    tile = tile or _favourite("grad_input" if transposed else "forward", pattern, gathered)
    assert tile is not None
    plan, (chunk, parts) = _plan(pattern, device, transposed), _chunk(tile, batch)
    bias = None if bias is None else packed(bias)
    arguments = (gathered, packed(weight), bias, owned, plan.table, batch)
    strides = (gathered.stride(0), owned.stride(0))
    constants = {"SIDE": plan.side, "RELU": relu} | _constants(tile, gathered.dtype)
    units = tiles.units_of(tile, plan.side)
    with _on(device):
        if tile.kernel == "resident":
            _module().resident[(units * parts,)](*arguments, *strides, chunk, **constants)
        else:
            programs = units * -(-batch // tile.tokens)
            _module().streamed[(programs,)](*arguments, *strides, **constants)
    return owned


def gradients(
    tile: Tile | None,
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor | None,
    pattern: Pattern,
    bias: bool,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Compute `grad_weight`, the bias's gradient if asked and, given weights, `grad_input`.

    In one pass with a tile (one of `backward`'s for `grad_input`), or else with the favourite.
    """
    grad_y, x = _rows(grad_y), _rows(x)
    name: FunctionName = "grad_weight" if weight is None else "backward"
    tile = tile or _favourite(name, pattern, x)
    assert tile is not None
    plan = _plan(pattern, x.device, transposed=not tile.by_row)
    gathered, owned = (x, grad_y) if tile.by_row else (grad_y, x)
    batch, units = x.shape[0], tiles.units_of(tile, plan.side)
    share = _power_of_two(-(-pattern.n_out // max(units, 1))) if bias else 0
    in_pass = 0 < share <= tiles.MOST_BIAS_COLUMNS and pattern.n_edges > 0
    grad_x = None if weight is None else x.new_empty(batch, pattern.n_in)
    chunk, parts = _chunk(tile, batch)
    # empty slots are visited by no program, and without a batch none is
    new = x.new_empty if pattern.is_full and batch else x.new_zeros
    kept = x.dtype if parts == 1 else torch.float32
    grad = new((parts, *pattern.weight_shape), dtype=kept)
    grad_bias = x.new_empty((parts, pattern.n_out), dtype=kept) if in_pass else None
    if grad.numel() and batch:
        with _on(x.device):
            _module().backward[(units * parts,)](
                gathered, owned, None if weight is None else packed(weight), grad_y,
                grad_x, grad, grad_bias, plan.table, batch,
                gathered.stride(0), owned.stride(0), grad_y.stride(0), chunk,
                pattern.n_out, grad[0].numel(),
                SIDE=plan.side, GRAD_INPUT=weight is not None, BIAS=share if in_pass else 0,
                **_constants(tile, x.dtype),
            )  # fmt: skip
    elif grad_x is not None:
        grad_x.zero_()
    if bias and (grad_bias is None or batch == 0):
        grad_bias = grad_y.sum(0, keepdim=True)
    return grad_x, _total(grad, x.dtype), None if grad_bias is None else _total(grad_bias, x.dtype)


def _total(parts: Tensor, dtype: torch.dtype) -> Tensor:
    """Add the parts of a result in their order."""
    if parts.shape[0] == 1:
        return parts[0]
    result = parts.new_empty(parts.shape[1:], dtype=dtype)
    size = result.numel()
    with _on(parts.device):
        _module().total[(-(-size // TOTAL_WIDTH),)](
            parts, result, size, PARTS=parts.shape[0], WIDTH=TOTAL_WIDTH
        )
    return result


@dataclass(frozen=True)
class _Plan:
    """A pattern on a device, as seen by a kernel that owns its rows or its columns."""

    side: Side
    table: Any


def _plan(pattern: Pattern, device: torch.device, transposed: bool) -> _Plan:
    def build() -> _Plan:
        side = tiles.side_of(pattern, transposed)
        if side.rule is not None:
            rule = cyclic_rule(pattern)
            seeds = (rule.slope, rule.offset, rule.slope_step, rule.offset_step)
            return _Plan(side, seeds)
        table = pattern.targets if transposed else pattern.sources
        return _Plan(side, torch.from_numpy(table.copy()).to(device))

    return pattern.plan(("triton", device, transposed), build)


def _favourite(function: FunctionName, pattern: Pattern, x: Tensor) -> Tile | None:
    """Return the first of the candidates for the tensor's dtype, device and about its batch."""
    batch = min(_power_of_two(x.shape[0]), MOST_PLANNED_BATCH)
    dtype, device, ieee = x.dtype, x.device, _ieee(x.dtype)

    def build() -> Tile | None:
        return next(iter(candidates(function, pattern, dtype, batch, device)), None)

    return pattern.plan(("triton", function, dtype, device, ieee, batch), build)


@cache
def _gpu(device: torch.device) -> Gpu:
    if device.type != "cuda":
        return INTERPRETED
    properties = torch.cuda.get_device_properties(device)
    return Gpu((properties.major, properties.minor), properties.multi_processor_count)


def _ieee(dtype: torch.dtype) -> bool:
    return dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision != "tf32"


def _constants(tile: Tile, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "PRECISION": "ieee" if _ieee(dtype) else "tf32",
        "TOKENS": tile.tokens,
        "WIDTH": tile.width,
        "DEPTH": tile.depth,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


def _chunk(tile: Tile, batch: int) -> tuple[int, int]:
    """Return a part's samples, in whole tiles, and how many parts that makes."""
    chunk = -(-batch // (tile.parts * tile.tokens)) * tile.tokens
    return chunk, max(1, -(-batch // max(chunk, 1)))


def _power_of_two(size: int) -> int:
    """Return the power of two at or above a size."""
    return 1 << max(size - 1, 0).bit_length()


def _rows(tensor: Tensor) -> Tensor:
    """Return the tensor with each sample's numbers next to each other in memory."""
    tensor = plain(tensor)
    return tensor if tensor.stride(1) == 1 else tensor.contiguous()


def _on(device: torch.device) -> Any:
    # Triton launches on the current device, which need not be the tensors'
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()

"""Compiled kernels for NVIDIA GPUs, from compute capability 8.0 on.

Tensors may have any strides; results are contiguous. Sums are kept in float32 by IEEE arithmetic,
in an order that depends on nothing but shapes and the GPU's model. Nothing waits for the device, so
calls may be captured in a CUDA graph. Workspaces come from torch's allocator: the transposed
activations (as large as those) and packed weights (float32).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from dnc_sparse.backends.cuda_tables import Direction, Table, build
from dnc_sparse.patterns import Pattern

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
OLDEST = 80


@cache
def _compiled() -> ModuleType | None:
    """Import the compiled module; None where it was never built. A broken one raises."""
    try:
        return import_module("dnc_sparse._cuda")
    except ModuleNotFoundError as error:
        if error.name != "dnc_sparse._cuda":
            raise
        return None


def _module() -> ModuleType:
    module = _compiled()
    if module is None:
        raise RuntimeError(f"backend 'cuda' cannot run here: {unavailable()}")
    return module


def unavailable(device: str | None = None, dtype: torch.dtype | None = None) -> str | None:
    """Why this backend cannot run (here, or on this device and dtype); None when it can."""
    module = _compiled()
    if module is None:
        return (
            "built without nvcc: dnc_sparse._cuda is missing; put nvcc (CUDA 12.8 or newer) on the "
            "PATH and install dnc-sparse from source again"
        )
    if module.DEVICE == "cuda" and (reason := _no_gpu()) is not None:
        return reason
    if device not in (None, module.DEVICE):
        return f"it computes on CUDA devices, not on {device!r}"
    if dtype is not None and dtype not in DTYPES:
        return f"{dtype} is not among its dtypes: {', '.join(map(str, DTYPES))}"
    return None


def _no_gpu() -> str | None:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA"
    if not torch.cuda.is_available():
        return "no CUDA driver or device was found"
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        if major * 10 + minor < OLDEST:
            return (
                f"device {index}, {torch.cuda.get_device_name(index)}, has compute capability "
                f"{major}.{minor}; 8.0 or newer is needed (hide it by CUDA_VISIBLE_DEVICES)"
            )
    return None


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias, negative ones as zero with `relu`: [batch, n_out]."""
    return _multiply("forward", x, weight, bias, pattern, relu)


def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return grad_y W: [batch, n_in]."""
    return _multiply("backward", grad_y, weight, None, pattern, False)


def _multiply(
    direction: Direction,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    pattern: Pattern,
    relu: bool,
) -> Tensor:
    module, place, dtype = _module(), _place(x), _dtype(x.dtype)
    weight, bias = _packed(weight), None if bias is None else _packed(bias)
    table, described = _table(pattern, direction, x.device)
    batch = x.shape[0]
    y = x.new_empty(batch, table.groups * table.share)
    if batch == 0:
        return y
    samples = _transposed(x)
    ordered = x.new_empty(table.order.numel() * table.share, dtype=torch.float32)
    module.pack(place, dtype, described, weight.data_ptr(), ordered.data_ptr())
    module.multiply(
        place,
        dtype,
        described,
        samples.data_ptr(),
        ordered.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        relu,
        y.data_ptr(),
        batch,
    )
    return y


def _transposed(x: Tensor) -> Tensor:
    """Return each feature's samples side by side, zeros past the batch: [features, padded]."""
    x = _plain(x)
    batch, features = x.shape
    out = x.new_empty(features, _module().padded_batch(batch))
    _module().transpose(
        _place(x), _dtype(x.dtype), x.data_ptr(), *x.stride(), batch, features, out.data_ptr()
    )
    return out


def _table(pattern: Pattern, direction: Direction, device: torch.device) -> tuple[Table, Any]:
    def make() -> tuple[Table, Any]:
        module = _module()
        _, _, shared_bytes = module.properties(device.index or 0)
        table = build(pattern, direction, module.multiply_tile(shared_bytes), device)
        return table, _described(table, pattern, direction)

    return pattern.plan(("cuda", direction, str(device)), make)


def _described(table: Table, pattern: Pattern, direction: Direction) -> Any:
    bo, bi = pattern.block
    steps = (bi, 1) if direction == "forward" else (1, bi)
    return _module().Table(
        groups=table.groups,
        columns=table.columns,
        tile=table.tile,
        share=table.share,
        first=table.first.data_ptr(),
        offset=table.offset.data_ptr(),
        order=table.order.data_ptr(),
        cells=bo * bi,
        output_block=table.output_block,
        output_step=steps[0],
        column_block=table.column_block,
        column_step=steps[1],
    )


def _place(x: Tensor) -> Any:
    stream = torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0
    return _module().Place(x.device.index or 0, stream)


@cache
def _dtype(dtype: torch.dtype) -> object:
    return getattr(_module().DType, DTYPES[dtype])


def _plain(tensor: Tensor) -> Tensor:
    # a negation that torch keeps as a mark on the tensor is not in its memory
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def _packed(tensor: Tensor) -> Tensor:
    tensor = _plain(tensor)
    return tensor if tensor.is_contiguous() else tensor.contiguous()

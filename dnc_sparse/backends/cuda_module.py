"""The compiled module of the cuda backend, and how tensors are handed to it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
NOT_BUILT = (
    "built without nvcc: dnc_sparse._cuda is missing; put nvcc (CUDA 12.8 or newer) on the "
    "PATH and install dnc-sparse from source again"
)


@cache
def compiled() -> ModuleType | None:
    """Import the compiled module; None where it was never built. A broken one raises."""
    try:
        return import_module("dnc_sparse._cuda")
    except ModuleNotFoundError as error:
        if error.name != "dnc_sparse._cuda":
            raise
        return None


def load() -> ModuleType:
    """Return the compiled module. Raises RuntimeError where it was never built."""
    module = compiled()
    if module is None:
        raise RuntimeError(f"backend 'cuda' cannot run here: {NOT_BUILT}")
    return module


def place(x: Tensor) -> Any:
    """Return the device and the stream on which work on x is queued."""
    stream = torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else 0
    return load().Place(x.device.index or 0, stream)


def dtype(of: torch.dtype) -> object:
    """Return the compiled module's name of a dtype."""
    return getattr(load().DType, DTYPES[of])


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor whose memory holds its numbers."""
    # a negation that torch keeps as a mark on the tensor is not in its memory
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def packed(tensor: Tensor) -> Tensor:
    """Return a contiguous tensor whose memory holds its numbers."""
    tensor = plain(tensor)
    return tensor if tensor.is_contiguous() else tensor.contiguous()

"""The compiled module of the cuda backend, and how tensors are handed to it."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from dnc_sparse.backends.compiled import load as import_compiled
from dnc_sparse.backends.compiled import packed

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
ALIGNMENT_BYTES = 16
NOT_BUILT = (
    "built without CUDA kernels: dnc_sparse._cuda is missing; put nvcc (12.8 or newer) on the PATH "
    "and install dnc-sparse from source with CMAKE_ARGS=-DDNC_CUDA=ON"
)


@cache
def compiled() -> ModuleType | None:
    return import_compiled("dnc_sparse._cuda")


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


def aligned(tensor: Tensor) -> Tensor:
    """Return a contiguous tensor that kernels can read 16 bytes at once."""
    tensor = packed(tensor)
    return tensor if tensor.data_ptr() % ALIGNMENT_BYTES == 0 else tensor.clone()

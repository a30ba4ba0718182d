"""What backends share: compiled modules, a pattern's masks, and tensors as kernels read them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from torch import Tensor

from dnc_sparse.patterns import Pattern
from dnc_sparse.patterns.edges import StartArray


def load(name: str) -> ModuleType | None:
    """Import a compiled module; None where it was never built. A broken one raises."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


def masks(pattern: Pattern):  # type: ignore[no-untyped-def]
    """Return one bit per pair of neurons, for the kernels that expand weights by them."""
    return pattern.plan(
        "masks",
        lambda: import_module("dnc_sparse._cpu").Masks(
            pattern.sources, pattern.columns, *pattern.block, starts(pattern)
        ),
    )


def starts(pattern: Pattern) -> StartArray | None:
    """Return where each row's slots begin where rows are compact, None where they are padded."""
    return pattern.indptr if pattern.compact else None


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor whose values are in its memory, with any strides."""
    # a negation that torch keeps as a mark on the tensor is not in its memory
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def packed(tensor: Tensor) -> Tensor:
    """Return a contiguous tensor whose values are in its memory."""
    tensor = plain(tensor)
    return tensor if tensor.is_contiguous() else tensor.contiguous()

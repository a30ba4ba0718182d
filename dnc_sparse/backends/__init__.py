"""Which implementation runs a junction: a table, a stated reason for every no.

A backend is a module with five functions, `forward`, `grad_input`, `grad_weight`, `backward` and
`unavailable`. `use_backend(name)` or the environment variable DNC_SPARSE_BACKEND names one for the
whole process; otherwise the first of `PREFERENCE` that states no reason against it runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from dnc_sparse.backends import cpu, cuda, gpu, half, reference, triton
from dnc_sparse.patterns import Pattern


class Backend(Protocol):
    """What a backend module provides; shapes are those of `dnc_sparse.ops`."""

    __name__: str

    def forward(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        pattern: Pattern,
        relu: bool = False,
    ) -> Tensor: ...

    def grad_input(self, grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor: ...

    def grad_weight(self, grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor: ...

    def backward(
        self, grad_y: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, bias: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the gradients in x, weight and, if asked, bias, at once."""
        ...

    def unavailable(
        self,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        block: tuple[int, int] | None = None,
    ) -> str | None:
        """Why this backend cannot run (here, or on these); None when it can."""
        ...


BACKENDS: dict[str, Backend] = {
    "reference": reference,
    "cpu": cpu,
    "cuda": cuda,
    "gpu": gpu,
    "half": half,
    "triton": triton,
}
PREFERENCE: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu", "half", "reference"),
    "cuda": ("gpu", "reference"),
}
ANY_DEVICE: tuple[str, ...] = ("reference",)


def _known(name: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known backends: {', '.join(sorted(BACKENDS))}")
    return name


_forced: str | None = os.environ.get("DNC_SPARSE_BACKEND") or None
if _forced is not None:
    _known(_forced)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every junction of this process on the named backend inside the block.

    Raises ValueError for an unknown name and RuntimeError, with the reason, for a backend that
    cannot run on this machine.
    """
    global _forced
    reason = BACKENDS[_known(name)].unavailable()
    if reason is not None:
        raise RuntimeError(f"backend {name!r} cannot run here: {reason}")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def select(device: str, dtype: torch.dtype, block: tuple[int, int] | None = None) -> Backend:
    """Return the backend for tensors of this device type and dtype, and a pattern of this block.

    Raises RuntimeError, with each reason, when the named one or every candidate states one.
    """
    return _selected(_forced, device, dtype, block)


# for small layers asking again takes a good part of a call; no reason changes while a process runs
@cache
def _selected(
    forced: str | None, device: str, dtype: torch.dtype, block: tuple[int, int] | None
) -> Backend:
    if forced is not None:
        reason = BACKENDS[forced].unavailable(device, dtype, block)
        if reason is None:
            return BACKENDS[forced]
        raise RuntimeError(f"backend {forced!r} cannot run here: {reason}")
    reasons = []
    for name in PREFERENCE.get(device, ANY_DEVICE):
        reason = BACKENDS[name].unavailable(device, dtype, block)
        if reason is None:
            return BACKENDS[name]
        reasons.append(f"{name}: {reason}")
    raise RuntimeError(f"no backend for {dtype} on {device!r}: {'; '.join(reasons)}")

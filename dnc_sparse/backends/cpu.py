"""Compiled kernels for the CPU, or AMX or dense arithmetic where the planner found it faster.

Activations may have any strides; results are contiguous. The kernels keep sums in float32 (float64
for float64), in an order that does not depend on the number of threads, which is torch's.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from dnc_sparse.backends import amx, dense, planner
from dnc_sparse.backends.compiled import load, packed, plain, starts
from dnc_sparse.backends.planner import AMX, DENSE, Function, Method
from dnc_sparse.patterns import Pattern

DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
# the same kernels with and without dot products of bfloat16 pairs, which may run at half rate
BFLOAT16_RIVALS = {"avx512_bf16": ("avx512",)}

_forced: str | None = None


@cache
def _compiled() -> ModuleType | None:
    return load("dnc_sparse._cpu")


def _module() -> ModuleType:
    module = _compiled()
    if module is None:
        raise RuntimeError(f"backend 'cpu' cannot run here: {unavailable()}")
    return module


def unavailable(
    device: str | None = None,
    dtype: torch.dtype | None = None,
    block: tuple[int, int] | None = None,
) -> str | None:
    """Why this backend cannot run (here, or on these); None when it can. Any block will do."""
    if _compiled() is None:
        return (
            f"dnc_sparse._cpu was not built for Python {platform.python_version()}; "
            "run `make dev`, or install the wheel"
        )
    if device not in (None, "cpu"):
        return f"it computes on the CPU, not on {device!r}"
    if dtype is not None and dtype not in DTYPES:
        return f"{dtype} is not among its dtypes: {', '.join(map(str, DTYPES))}"
    return None


def instruction_sets() -> dict[str, str | None]:
    """Return the compiled instruction sets, best first, each with why it cannot run, or None."""
    return dict(_module().instruction_sets())


def active_instruction_set() -> str:
    """Return the name of the instruction set in use."""
    return _forced or _best_instruction_set()


@cache
def _best_instruction_set() -> str:
    return next(name for name, reason in instruction_sets().items() if reason is None)


@contextmanager
def use_instruction_set(name: str) -> Iterator[None]:
    """Compute with the named instruction set inside the block, for tests and comparisons.

    Raises ValueError for an unknown name, RuntimeError when this processor lacks it.
    """
    global _forced
    sets = instruction_sets()
    if name not in sets:
        raise ValueError(f"unknown instruction set {name!r}; compiled ones: {', '.join(sets)}")
    if sets[name] is not None:
        raise RuntimeError(f"instruction set {name!r} cannot run here: {sets[name]}")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias, negative ones as zero with `relu`: [batch, n_out]."""
    return _run(FORWARD, pattern, x, weight, bias, pattern, relu)


def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return grad_y W: [batch, n_in]."""
    return _run(GRAD_INPUT, pattern, grad_y, weight, pattern)


def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return each edge's share of grad_y^T x, zero in empty slots: [rows, slots, bo, bi]."""
    return _run(GRAD_WEIGHT, pattern, grad_y, x, pattern)


def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients in x, in weight, each as by its function, and, if asked, in bias."""
    threads = torch.get_num_threads()
    for_input, for_weight = (grad_y, weight, pattern), (grad_y, x, pattern)
    by_input = _method(GRAD_INPUT, pattern, threads, for_input)
    by_weight = _method(GRAD_WEIGHT, pattern, threads, for_weight)
    if not {by_input, by_weight} & {AMX, DENSE}:
        return _backward(by_input, by_weight, threads, grad_y, x, weight, pattern, bias)
    if by_input is DENSE and by_weight is DENSE:
        return dense.backward(grad_y, x, weight, pattern, bias)
    return (
        GRAD_INPUT.compute(by_input, threads, for_input),
        GRAD_WEIGHT.compute(by_weight, threads, for_weight),
        grad_y.sum(0) if bias else None,
    )


def rivals(dtype: torch.dtype) -> tuple[str, ...]:
    """Return the instruction sets that may be the fastest in a dtype, the first unless measured."""
    best = active_instruction_set()
    others = BFLOAT16_RIVALS.get(best, ()) if dtype == torch.bfloat16 else ()
    return (best, *others)


def _run(function: Function, pattern: Pattern, *arguments: Any) -> Tensor:
    threads = torch.get_num_threads()
    return function.compute(_method(function, pattern, threads, arguments), threads, arguments)


def _method(
    function: Function, pattern: Pattern, threads: int, arguments: tuple[Any, ...]
) -> Method:
    # an instruction set that was named is not planned around
    if _forced is not None:
        return Method(_forced)
    return planner.choose(function, pattern, threads, arguments)


def _forward(
    method: Method,
    threads: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    pattern: Pattern,
    relu: bool = False,
) -> Tensor:
    x, weight = plain(x), packed(weight)
    bias = None if bias is None else packed(bias)
    batch, n_out = x.shape[0], pattern.n_out
    y = x.new_empty(batch, n_out)
    _plan(pattern).forward(
        _position(method.instruction_set),
        _dtype(x.dtype),
        x.data_ptr(),
        *x.stride(),
        weight.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        relu,
        y.data_ptr(),
        n_out,
        batch,
        method.samples,
        threads,
    )
    return y


def _grad_input(
    method: Method, threads: int, grad_y: Tensor, weight: Tensor, pattern: Pattern
) -> Tensor:
    grad_y, weight = plain(grad_y), packed(weight)
    batch, n_in = grad_y.shape[0], pattern.n_in
    grad_x = grad_y.new_empty(batch, n_in)
    _plan(pattern).grad_input(
        _position(method.instruction_set),
        _dtype(grad_y.dtype),
        grad_y.data_ptr(),
        *grad_y.stride(),
        weight.data_ptr(),
        grad_x.data_ptr(),
        n_in,
        batch,
        method.samples,
        threads,
    )
    return grad_x


def _grad_weight(
    method: Method, threads: int, grad_y: Tensor, x: Tensor, pattern: Pattern
) -> Tensor:
    grad_y, x = plain(grad_y), plain(x)
    grad = x.new_empty(pattern.weight_shape)
    _plan(pattern).grad_weight(
        _position(method.instruction_set),
        _dtype(x.dtype),
        grad_y.data_ptr(),
        *grad_y.stride(),
        x.data_ptr(),
        *x.stride(),
        grad.data_ptr(),
        x.shape[0],
        method.samples,
        threads,
    )
    return grad


def _backward(
    by_input: Method,
    by_weight: Method,
    threads: int,
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    pattern: Pattern,
    bias: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    grad_y, x, weight = plain(grad_y), plain(x), packed(weight)
    batch, n_in = x.shape
    grad_x = x.new_empty(batch, n_in)
    grad_weight = x.new_empty(pattern.weight_shape)
    grad_bias = x.new_empty(pattern.n_out) if bias else None
    _plan(pattern).backward(
        _position(by_input.instruction_set),
        by_input.samples,
        _position(by_weight.instruction_set),
        by_weight.samples,
        _dtype(x.dtype),
        grad_y.data_ptr(),
        *grad_y.stride(),
        x.data_ptr(),
        *x.stride(),
        weight.data_ptr(),
        grad_x.data_ptr(),
        n_in,
        grad_weight.data_ptr(),
        0 if grad_bias is None else grad_bias.data_ptr(),
        batch,
        threads,
    )
    return grad_x, grad_weight, grad_bias


def _plan(pattern: Pattern):  # type: ignore[no-untyped-def]
    return pattern.plan(
        "cpu",
        lambda: _module().Plan(pattern.sources, pattern.columns, *pattern.block, starts(pattern)),
    )


@cache
def _position(instruction_set: str) -> int:
    return list(instruction_sets()).index(instruction_set)


@cache
def _dtype(dtype: torch.dtype) -> object:
    return getattr(_module().DType, DTYPES[dtype])


FORWARD = Function(
    "forward", _forward, dense.forward, amx.forward, _plan, (32, 64, 128, 256), rivals
)
GRAD_INPUT = Function(
    "grad_input", _grad_input, dense.grad_input, amx.grad_input, _plan, (32, 64, 128, 256), rivals
)
GRAD_WEIGHT = Function(
    "grad_weight",
    _grad_weight,
    dense.grad_weight,
    amx.grad_weight,
    _plan,
    (64, 128, 256, 512),
    rivals,
)
FUNCTIONS = (FORWARD, GRAD_INPUT, GRAD_WEIGHT)

"""Junctions on a CUDA device: Triton's kernels, CUDA's or dense arithmetic, whichever is fastest.

The planner's side of the GPU. Each function of a junction has a few methods; they are timed once
per case and card, on the tensors of the call that asked, and `measurements` keeps what was found.
Where nothing may be timed (deterministic algorithms, a CUDA graph being captured) a rule decides.
A method whose result differs from dense arithmetic's is left out with a warning, so that a kernel
which a driver, a compiler or a new card breaks costs speed and not truth. docs/planner.md tells it
to users.

| name   | meaning                                                                       |
|--------|-------------------------------------------------------------------------------|
| method | a backend, with one of its configurations, or dense, or two separate gradients |
| case   | what a choice depends on: function, pattern, batch, dtype, card               |
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dnc_sparse.backends import cuda, measurements, planner, reference, triton
from dnc_sparse.backends.padded import on_padded_rows
from dnc_sparse.backends.planner import Decision, bucket, dtype_name, winner
from dnc_sparse.backends.race import race
from dnc_sparse.patterns import Pattern

FUNCTIONS = ("forward", "grad_input", "grad_weight", "backward")
KERNELS: dict[str, Any] = {"triton": triton, "cuda": cuda}
# densities below which sparse kernels should win, by the shorter side of a block: the goals of
# docs/gpu-kernels.md, used only where nothing may be timed
EVEN_DENSITY = ((128, 0.8), (64, 0.65), (32, 0.4), (16, 0.2), (8, 0.1), (1, 1 / 40))
EVEN_DENSITY_IEEE = 0.25
# times that density from which dense arithmetic surely wins, unless weights are all that is moved
CLEAR_LOSS, FEW_SAMPLES = 4, 16
# largest error of a right kernel, in parts of the largest number; a lost block of edges makes more.
# TF32 has 10 bits, and dense products may add up in halves
AGREEMENT = {torch.float32: 0.01, torch.float16: 0.02, torch.bfloat16: 0.05}
# runs between two readings of the device's clock
TIMED_RUNS = 5


class Method(NamedTuple):
    """A backend's kernels in one of its configurations, `DENSE`, or `SEPARATE`."""

    backend: str
    config: Any = None

    def __str__(self) -> str:
        return self.backend if self.config is None else f"{self.backend} {self.config}"


DENSE = Method("dense")
# the gradients one after the other, each by its own best method
SEPARATE = Method("separate")
Arguments = tuple[Any, ...]


class Case(NamedTuple):
    """A function of one junction, with a number of samples in one dtype, on one card."""

    function: str
    pattern: Pattern
    batch: int
    dtype: torch.dtype
    device: torch.device

    @property
    def key(self) -> str:
        """Say what a measurement holds for."""
        p = self.pattern
        rule = "TF32" if _tf32(self.dtype) else dtype_name(self.dtype)
        return (
            f"{card(self.device)}: {self.function} {p.n_in} -> {p.n_out} "
            f"{p.block[0]}x{p.block[1]}, {p.family}, {p.n_edges} edges in {p.slots} slots, "
            f"batch {1 << bucket(self.batch)}, {rule}"
        )

    def methods(self) -> list[Method]:
        """Return the sparse methods of this case, the favourite first."""
        own = self._kernels(self.function)
        if self.function == "backward" and (own or self._kernels("grad_input")):
            return [*own, SEPARATE]
        return own

    def _kernels(self, function: str) -> list[Method]:
        return [
            Method(name, config)
            for name, kernels in KERNELS.items()
            if kernels.unavailable(self.device.type, self.dtype, self.pattern.block) is None
            for config in kernels.candidates(
                *(function, self.pattern, self.dtype, self.batch, self.device)
            )
        ]


def unavailable(
    device: str | None = None,
    dtype: torch.dtype | None = None,
    block: tuple[int, int] | None = None,
) -> str | None:
    """Why this backend cannot run (here, or on these); None when it can."""
    if device not in (None, "cuda"):
        return f"it computes on CUDA devices, not on {device!r}"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    if dtype is not None and not dtype.is_floating_point:
        return f"weights and activations must be floating point, got {dtype}"
    return None


@on_padded_rows
def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias, negative ones as zero with `relu`: [batch, n_out]."""
    y: Tensor = _run("forward", pattern, (x, weight, bias, pattern, relu))
    return y


@on_padded_rows
def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return grad_y W: [batch, n_in]."""
    grad_x: Tensor = _run("grad_input", pattern, (grad_y, weight, pattern))
    return grad_x


@on_padded_rows
def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return each edge's share of grad_y^T x, zero in empty slots: [rows, slots, bo, bi]."""
    grad: Tensor = _run("grad_weight", pattern, (grad_y, x, pattern))
    return grad


@on_padded_rows
def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients in x, weight and, if asked, bias."""
    grads: tuple[Tensor, Tensor, Tensor | None] = _run(
        "backward", pattern, (grad_y, x, weight, pattern, bias)
    )
    return grads


def _run(function: str, pattern: Pattern, arguments: Arguments) -> Any:
    x: Tensor = arguments[0]
    known: dict[Any, Method] = pattern.plan(("methods", x.device), dict)
    fixed = torch.are_deterministic_algorithms_enabled()
    key = (function, bucket(x.shape[0]), x.dtype, _tf32(x.dtype), planner.mode(), fixed)
    method = known.get(key)
    if method is None:
        capturing = x.is_cuda and torch.cuda.is_current_stream_capturing()
        case = Case(function, pattern, x.shape[0], x.dtype, x.device)
        method = decide(case, arguments, may_measure=not capturing).method
        # what was chosen for want of a clock is not kept
        if not capturing:
            known[key] = method
    return compute(method, function, arguments)


def compute(method: Method, function: str, arguments: Arguments) -> Any:
    """Return the function's value by a method."""
    if method == DENSE:
        return getattr(reference, function)(*arguments)
    if method == SEPARATE:
        grad_y, x, weight, pattern, bias = arguments
        grads = grad_input(grad_y, weight, pattern), grad_weight(grad_y, x, pattern)
        return *grads, grad_y.sum(0) if bias else None
    return KERNELS[method.backend].run(function, method.config, arguments)


def decide(case: Case, arguments: Arguments, may_measure: bool = True) -> Decision[Method]:
    """Choose by rule where one settles it, else by a measurement, taken before or now."""
    if planner.mode() == "dense":
        return Decision(DENSE, "planner.use('dense')")
    methods = case.methods()
    if not methods:
        return Decision(DENSE, "no sparse kernel takes this junction in this dtype")
    if planner.mode() == "sparse":
        return Decision(methods[0], "planner.use('sparse')")
    if torch.are_deterministic_algorithms_enabled() or not may_measure or case.batch == 0:
        return _ruled(case, methods[0], arguments if may_measure else None)
    limit = CLEAR_LOSS * even_density(case.pattern, case.dtype)
    if case.pattern.density > limit and case.batch > FEW_SAMPLES:
        return Decision(DENSE, f"density above {limit:.3g}: dense wins in {dtype_name(case.dtype)}")
    seconds = _measured(case, [*methods, DENSE], arguments)
    return Decision(winner(seconds), f"measured on {card(case.device)}", seconds=seconds)


def _ruled(case: Case, favourite: Method, arguments: Arguments | None) -> Decision[Method]:
    """Choose without a clock, from what the kernels were designed to reach.

    The favourite is compared with dense arithmetic if there are arguments to do it with.
    """
    limit = even_density(case.pattern, case.dtype)
    sparse = case.pattern.density < limit
    if sparse and arguments is not None:
        sparse = favourite in _agreeing(case, [favourite, DENSE], arguments)
    return Decision(
        favourite if sparse else DENSE,
        f"nothing may be timed now: sparse below density {limit:.3g}, where it should win",
    )


def even_density(pattern: Pattern, dtype: torch.dtype) -> float:
    """Return the density at which sparse and dense should take equally long."""
    side = min(pattern.block)
    if side < EVEN_DENSITY[-2][0] and dtype == torch.float32 and not _tf32(dtype):
        return EVEN_DENSITY_IEEE
    return next(density for least, density in EVEN_DENSITY if side >= least)


def _measured(case: Case, methods: list[Method], arguments: Arguments) -> dict[Method, float]:
    """Return the seconds of the methods, the favourite first; those that took too long may lack.

    They come from the file of this machine where they were measured before.
    """

    def timed() -> dict[str, float]:
        # which also compiles the kernels
        runs = {
            str(method): partial(compute, method, case.function, arguments)
            for method in _agreeing(case, methods, arguments)
        }
        with torch.no_grad():
            return race(runs, _device_seconds)

    return measurements.remembered(case.key, methods, timed)


def _agreeing(case: Case, methods: list[Method], arguments: Arguments) -> list[Method]:
    """Return the methods whose results are those of the last, dense one, but for rounding."""
    *sparse, dense = methods
    kept = []
    with torch.no_grad():
        truth = _tensors(compute(dense, case.function, arguments))
        for method in sparse:
            found = _tensors(compute(method, case.function, arguments))
            if all(map(agrees, found, truth)):
                kept.append(method)
            else:
                warnings.warn(
                    f"{method} gives another result than dense arithmetic and is not used: "
                    f"{case.key}; please report this",
                    stacklevel=2,
                )
    return [*kept, dense]


def _tensors(value: Any) -> list[Tensor]:
    each = value if isinstance(value, tuple) else (value,)
    return [tensor for tensor in each if tensor is not None]


def agrees(found: Tensor, truth: Tensor) -> bool:
    """Whether two results are equal but for rounding, wherever the second is a finite number."""
    known = truth.isfinite()
    if not bool(known.any()):
        return True
    size = torch.where(known, truth, 0).abs().amax()
    error = torch.where(known, (found - truth).abs(), 0).amax()
    # not a number is no small error
    return bool(error <= AGREEMENT[found.dtype] * size)


def _device_seconds(run: Callable[[], object]) -> float:
    """Run a few times and return the seconds of one, by the device's clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(TIMED_RUNS):
        run()
    end.record()
    end.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1e3 / TIMED_RUNS


def describe() -> dict[str, str]:
    """Return what a result measured on a CUDA device has to carry; nothing without one."""
    if not torch.cuda.is_available():
        return {}
    return {"gpu": card(torch.device("cuda")), "cuda": str(torch.version.cuda)}


def card(device: torch.device) -> str:
    """Return the device's name, capability and kernels, for measurements to carry."""
    return _card(torch.cuda.current_device() if device.index is None else device.index)


@cache
def _card(index: int) -> str:
    major, minor = torch.cuda.get_device_capability(index)
    try:
        compiler = f", triton {version('triton')}"
    except PackageNotFoundError:
        compiler = ""
    return f"{torch.cuda.get_device_name(index)} (sm_{major}{minor}{compiler})"


def _tf32(dtype: torch.dtype) -> bool:
    """Whether torch lets products of this dtype round their operands to TF32."""
    return dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32"

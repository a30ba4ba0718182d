"""Junctions on a CUDA device: Triton's kernels, CUDA's or dense arithmetic, whichever is fastest.

The planner's side of the GPU. Each function of a junction has a few methods; they are raced once
per case and card, on the tensors of the call that asked, and `measurements` keeps the seconds.
Where deterministic algorithms are asked for, a rule decides. A method that fails, or whose result
differs from dense arithmetic's, is left out with a warning, so that a kernel which a driver, a
compiler or a new card breaks costs speed and not truth. docs/planner.md tells it to users.

| name   | meaning                                                                       |
|--------|-------------------------------------------------------------------------------|
| method | a backend, with one of its configurations, or dense, or two separate gradients |
| case   | what a choice depends on: function, pattern, batch, dtype, card               |
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dnc_sparse.backends import cuda, device_race, measurements, planner, reference, triton
from dnc_sparse.backends.capture import capturing, refusal
from dnc_sparse.backends.padded import on_padded_rows
from dnc_sparse.backends.planner import Decision, bucket, dtype_name, winner
from dnc_sparse.backends.race import Run
from dnc_sparse.patterns import Pattern

FUNCTIONS = ("forward", "grad_input", "grad_weight", "backward")
KERNELS: dict[str, Any] = {"triton": triton, "cuda": cuda}
# densities below which sparse kernels should win, by the shorter side of a block: the goals of
# docs/gpu-kernels.md, used only where nothing may be timed
EVEN_DENSITY = ((128, 0.8), (64, 0.65), (32, 0.4), (16, 0.2), (8, 0.1), (1, 1 / 40))
EVEN_DENSITY_IEEE = 0.25
# times that density from which dense arithmetic surely wins, unless weights are all that is moved
CLEAR_LOSS, FEW_SAMPLES = 4, 16


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

    def __str__(self) -> str:
        return (
            f"{self.function} of {self.pattern!r} with {self.batch} samples in "
            f"{dtype_name(self.dtype)}"
        )

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
        kernels = self._kernels(self.function)
        if self.function == "backward" and (kernels or self._kernels("grad_input")):
            return [*kernels, SEPARATE]
        return kernels

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
    chosen: dict[Any, Method] = pattern.plan(("methods", x.device), dict)
    fixed = torch.are_deterministic_algorithms_enabled()
    key = (function, bucket(x.shape[0]), x.dtype, _tf32(x.dtype), planner.mode(), fixed)
    case = Case(function, pattern, x.shape[0], x.dtype, x.device)
    method = chosen.get(key)
    if method is None:
        if capturing(x.device) and planner.mode() != "dense":
            raise refusal(str(case))
        method = chosen[key] = decide(case, arguments).method
    try:
        return compute(method, function, arguments)
    except device_race.PASSED_ON:
        raise
    except Exception as error:
        # the two gradients have each been here
        if method == SEPARATE:
            raise
        if capturing(x.device):
            raise refusal(str(case)) from error
        if method == DENSE:
            raise
        if planner.mode() == "sparse":
            device_race.raise_if_lost(x.device, str(method), case.key, error)
            raise RuntimeError(
                f"{method} fails ({device_race.first_line(error)}): {case.key}; "
                f"planner.use('measured') takes another method"
            ) from error
        device_race.leave_out(x.device, str(method), case.key, error)
        chosen[key] = DENSE
    return compute(DENSE, function, arguments)


def compute(method: Method, function: str, arguments: Arguments) -> Any:
    """Return the function's value by a method."""
    if method == DENSE:
        return getattr(reference, function)(*arguments)
    if method == SEPARATE:
        grad_y, x, weight, pattern, bias = arguments
        grads = grad_input(grad_y, weight, pattern), grad_weight(grad_y, x, pattern)
        return *grads, grad_y.sum(0) if bias else None
    return KERNELS[method.backend].run(function, method.config, arguments)


def decide(case: Case, arguments: Arguments) -> Decision[Method]:
    """Choose by rule where one settles it, else by a measurement, taken before or now."""
    if planner.mode() == "dense":
        return Decision(DENSE, "planner.use('dense')")
    methods = case.methods()
    if not methods:
        return Decision(DENSE, "no sparse kernel takes this junction in this dtype")
    favourite = methods[0]
    if planner.mode() == "sparse":
        return Decision(favourite, "planner.use('sparse')")
    if torch.are_deterministic_algorithms_enabled() or case.batch == 0:
        return _ruled(case, favourite, arguments)
    limit = CLEAR_LOSS * even_density(case.pattern, case.dtype)
    if case.pattern.density > limit and case.batch > FEW_SAMPLES:
        return Decision(DENSE, f"density above {limit:.3g}: dense wins in {dtype_name(case.dtype)}")
    try:
        seconds = _measured(case, methods, arguments)
    except torch.OutOfMemoryError:
        # comparing holds dense weights and two results, which the favourite does without
        warnings.warn(
            f"{favourite} is taken unmeasured, as memory is too short to compare methods: "
            f"{case.key}",
            stacklevel=2,
        )
        return Decision(favourite, "memory is too short to compare methods: the sparse favourite")
    return Decision(winner(seconds), f"measured on {card(case.device)}", seconds=seconds)


def _ruled(case: Case, favourite: Method, arguments: Arguments) -> Decision[Method]:
    """Choose without a clock, from what the kernels were designed to reach.

    A sparse method is compared with dense arithmetic, where there is memory for that.
    """
    limit = even_density(case.pattern, case.dtype)
    sparse = case.pattern.density < limit
    if sparse:
        runs = _runs(case, [favourite, DENSE], arguments)
        with torch.no_grad(), suppress(torch.OutOfMemoryError):
            right = device_race.right(case.device, case.key, runs, str(DENSE), sure=len(runs))
            sparse = str(favourite) in dict(right)
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
    """Return the seconds of the sparse methods and of dense arithmetic, the favourite's first.

    They come from the file of this machine where they were measured before. Dense arithmetic and
    the first method of each backend are among them, however long they take.
    """
    favourite, *firsts = [next(group) for _, group in groupby(methods, lambda one: one.backend)]
    sure = [favourite, DENSE, *firsts]
    order = [*sure, *(method for method in methods if method not in sure)]

    def timed() -> dict[str, float]:
        runs = _runs(case, order, arguments)
        return device_race.race_on(case.device, case.key, runs, str(DENSE), sure=len(sure))

    return measurements.remembered(case.key, order, timed)


def _runs(case: Case, methods: list[Method], arguments: Arguments) -> dict[str, Run]:
    return {str(method): partial(compute, method, case.function, arguments) for method in methods}


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

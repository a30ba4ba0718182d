"""The road of plain eager calls: from a layer to the backend without torch's dispatcher.

It more than halves the time of small layers (docs/decisions/0004-eager-path.md). Kernels read
memory, so whatever makes a tensor more than its memory, or wants to see operators, has to be asked
for here; `needs_operators` is that list.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._C._profiler import _RecordFunctionFast
from torch.autograd import forward_ad, profiler
from torch.fx import _symbolic_trace

from dnc_sparse import backends
from dnc_sparse.ops.derivatives import Operators, gradients
from dnc_sparse.patterns import Pattern

_PLAIN = (Tensor, torch.nn.Parameter)
# each call asks for all of these, so they are looked up once
_is_compiling = torch.compiler.is_compiling
_operator_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._is_torch_function_mode_enabled
_transforms = torch._C._are_functorch_transforms_active
_trace = torch._C._get_tracing_state
_is_grad_enabled = torch.is_grad_enabled
_saved_tensors_hooks = torch._C._autograd._top_saved_tensors_default_hooks


def needs_operators(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether anything but a kernel looks at the call: then it has to be an operator.

    Such are compilers and exporters, tensor subclasses and proxies of `torch.fx`, tensors without
    memory (meta tensors, wrappers of transforms, the zeros of forward mode), `torch.jit.trace`,
    modes that see torch functions or operators, forward mode, and the transforms of `torch.func`.
    """
    if (
        _is_compiling()
        or type(x) not in _PLAIN
        or type(weight) not in _PLAIN
        or (bias is not None and type(bias) not in _PLAIN)
        or _operator_modes() > 0
        or _function_modes()
        or _transforms()
        or _trace() is not None
        # of `make_fx(pre_dispatch=True)` too, whose mode is on no stack
        or _symbolic_trace._is_fx_tracing_flag
        or forward_ad._current_level >= 0
    ):
        return True
    try:
        return x.data_ptr() == 0 or weight.data_ptr() == 0
    except RuntimeError:
        # so torch says that a tensor has no storage: a transform's wrapper that outlived it, or a
        # batch of `torch.autograd.grad(is_grads_batched=True)`
        return True


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool) -> Tensor:
    """Compute `ops.forward` of tensors that were checked, so that autograd knows of it."""
    backend = backends.select(x.device.type, x.dtype, pattern.block)
    if profiler._is_profiler_enabled:
        backend = _Recorded(backend)
    if _is_grad_enabled() and (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        y: Tensor = _apply(x, weight, bias, pattern, relu, backend)  # type: ignore[no-untyped-call]
        return y
    return backend.forward(x, weight, bias, pattern, relu)


class _Eager(torch.autograd.Function):
    """The forward operator and its gradients by a backend's functions."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        pattern: Pattern,
        relu: bool,
        backend: backends.Backend,
    ) -> Tensor:
        y = backend.forward(x, weight, bias, pattern, relu)
        # what no gradient needs is not kept: it may be the largest tensor of the layer
        ctx.save_for_backward(
            x if weight.requires_grad else None,
            weight if x.requires_grad else None,
            y if relu else None,
        )
        ctx.pattern, ctx.backend = pattern, backend
        ctx.hooked = _saved_tensors_hooks(True) is not None
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad_y,) = grads
        saved = ctx.saved_tensors
        # somebody wants second derivatives, which only operators have, or looks at the call; or
        # has changed what was saved, so that it has to be checked again, as operators do
        if (
            _is_grad_enabled()
            or needs_operators(grad_y, grad_y)
            or (ctx.hooked and _other(saved, grad_y, ctx.pattern))
        ):
            own = gradients(ctx, grad_y, saved, Operators, ctx.pattern.key)
        else:
            own = gradients(ctx, grad_y, saved, ctx.backend, ctx.pattern)
        return *own, None, None, None


def _other(saved: tuple[Tensor | None, ...], grad_y: Tensor, pattern: Pattern) -> bool:
    """Whether hooks gave back something else than a kernel can take for x and the weight."""
    shapes = (len(grad_y), pattern.n_in), pattern.weight_shape
    return any(
        tensor is not None
        and not (
            type(tensor) in _PLAIN
            and tensor.shape == shape
            and tensor.dtype == grad_y.dtype
            and tensor.device == grad_y.device
        )
        for tensor, shape in zip(saved[:2], shapes, strict=True)
    )


# `_Eager.apply` without its search for transforms, which `needs_operators` has excluded
_apply = super(torch.autograd.Function, _Eager).apply


class _Recorded:
    """A backend whose functions `torch.profiler` sees, under the operators' names."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._backend, name)

        def recorded(*arguments: Any) -> Any:
            tensors = [a for a in arguments if isinstance(a, Tensor)]
            with _RecordFunctionFast(f"dnc_sparse::{name}", tensors):
                return function(*arguments)

        return recorded

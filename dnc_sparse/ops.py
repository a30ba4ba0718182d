"""The three functions of a junction, registered with torch once for every backend.

| name   | meaning                                    | shape                 |
|--------|--------------------------------------------|-----------------------|
| x      | activations of the left layer              | [batch, n_in]         |
| weight | one number per edge, in the pattern's slots | [rows, slots, bo, bi] |
| bias   | one number per right neuron                | [n_out]               |
| relu   | whether negative activations become zero   |                       |
| y      | activations of the right layer             | [batch, n_out]        |
| grad_* | gradient of the loss in *                  | as *                  |

Registered operators take the pattern as its `key` (canonical JSON), so that a compiled or exported
graph carries all it needs. Each gradient is another of the three functions, so second derivatives
work as well. Where nothing needs to see an operator (no tracing, no transform), `forward`
calls the backend itself, which more than halves the time of small layers
(docs/decisions/0004-eager-path.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dnc_sparse import backends
from dnc_sparse.patterns import Pattern


@torch.library.custom_op("dnc_sparse::forward", mutates_args=())
def _forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: str, relu: bool = False
) -> Tensor:
    own = _checked(pattern, x=x, weight=weight, bias=bias)
    return _backend(x).forward(x, weight, bias, own, relu)


@torch.library.custom_op("dnc_sparse::grad_input", mutates_args=())
def _grad_input(grad_y: Tensor, weight: Tensor, pattern: str) -> Tensor:
    own = _checked(pattern, grad_y=grad_y, weight=weight)
    return _backend(grad_y).grad_input(grad_y, weight, own)


@torch.library.custom_op("dnc_sparse::grad_weight", mutates_args=())
def _grad_weight(grad_y: Tensor, x: Tensor, pattern: str) -> Tensor:
    own = _checked(pattern, x=x, grad_y=grad_y)
    return _backend(x).grad_weight(grad_y, x, own)


@_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, pattern: str, relu: bool = False) -> Tensor:
    own = _checked(pattern, x=x, weight=weight, bias=bias)
    return x.new_empty(x.shape[0], own.n_out)


@_grad_input.register_fake
def _(grad_y: Tensor, weight: Tensor, pattern: str) -> Tensor:
    own = _checked(pattern, grad_y=grad_y, weight=weight)
    return grad_y.new_empty(grad_y.shape[0], own.n_in)


@_grad_weight.register_fake
def _(grad_y: Tensor, x: Tensor, pattern: str) -> Tensor:
    own = _checked(pattern, x=x, grad_y=grad_y)
    return x.new_empty(own.weight_shape)


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, ctx.pattern, relu = inputs
    # what no gradient needs is not kept: it may be the largest tensor of the layer
    ctx.save_for_backward(
        x if weight.requires_grad else None,
        weight if x.requires_grad else None,
        output if relu else None,
    )


def _save_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad_y, other, ctx.pattern = inputs
    ctx.save_for_backward(grad_y, other)


def _gradients(
    ctx: Any,
    grad_y: Tensor,
    grad_input: Callable[..., Tensor],
    grad_weight: Callable[..., Tensor],
    pattern: Pattern | str,
) -> tuple[Tensor | None, ...]:
    """Return the gradients that `forward`'s arguments need, by the given two functions."""
    x, weight, y = ctx.saved_tensors
    if y is not None:
        # torch.relu's own backward; detached, as y tells only signs, whose derivative is zero
        grad_y = torch.ops.aten.threshold_backward(grad_y, y.detach(), 0)
    needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
    return (
        grad_input(grad_y, weight, pattern) if needs_x else None,
        grad_weight(grad_y, x, pattern) if needs_weight else None,
        grad_y.sum(0) if needs_bias else None,
        None,
        None,
    )


def _backward_of_forward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    return _gradients(ctx, grad_y, _grad_input, _grad_weight, ctx.pattern)


def _backward_of_grad_input(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_y, weight = ctx.saved_tensors
    needs_grad_y, needs_weight, _ = ctx.needs_input_grad
    return (
        _forward(grad, weight, None, ctx.pattern) if needs_grad_y else None,
        _grad_weight(grad_y, grad, ctx.pattern) if needs_weight else None,
        None,
    )


def _backward_of_grad_weight(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_y, x = ctx.saved_tensors
    needs_grad_y, needs_x, _ = ctx.needs_input_grad
    return (
        _forward(x, grad, None, ctx.pattern) if needs_grad_y else None,
        _grad_input(grad_y, grad, ctx.pattern) if needs_x else None,
        None,
    )


_forward.register_autograd(_backward_of_forward, setup_context=_save_forward)
_grad_input.register_autograd(_backward_of_grad_input, setup_context=_save_gradient)
_grad_weight.register_autograd(_backward_of_grad_weight, setup_context=_save_gradient)


class _Eager(torch.autograd.Function):
    """The forward operator and its gradients without torch's dispatcher in between."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool
    ) -> Tensor:
        y = _backend(x).forward(x, weight, bias, pattern, relu)
        _save_forward(ctx, (x, weight, bias, pattern, relu), y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad_y,) = grads
        if torch.is_grad_enabled():
            # somebody wants second derivatives, which only operators have
            return _gradients(ctx, grad_y, _grad_input, _grad_weight, ctx.pattern.key)
        backend = _backend(grad_y)
        return _gradients(ctx, grad_y, backend.grad_input, backend.grad_weight, ctx.pattern)


_PLAIN = (Tensor, torch.nn.Parameter)


def _needs_operators(*tensors: Tensor | None) -> bool:
    """Whether a compiler, an exporter, a transform or a tensor subclass looks at each operator."""
    return (
        torch.compiler.is_compiling()
        or any(t is not None and (type(t) not in _PLAIN or t.is_meta) for t in tensors)
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias over the pattern's edges, through ReLU if asked: [batch, n_out].

    ReLU and its gradients are `torch.relu`'s, at zero and NaN too. Under autocast the operands are
    cast to its dtype first, float64 excepted, as torch does. Raises ValueError for a wrong shape,
    TypeError for dtypes that differ or are not floating, RuntimeError for tensors on different
    devices or when no backend can run.
    """
    if not x.is_meta and torch.is_autocast_enabled(x.device.type):
        x, weight, bias = _autocast(x, weight, bias)
    y: Tensor
    if _needs_operators(x, weight, bias):
        y = _forward(x, weight, bias, pattern.key, relu)
    else:
        _check(pattern, {"x": x, "weight": weight, "bias": bias})
        y = _Eager.apply(x, weight, bias, pattern, relu)  # type: ignore[no-untyped-call]
    return y


def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return the gradient in x, grad_y W: [batch, n_in]. Raises as `forward`."""
    grad_x: Tensor = _grad_input(grad_y, weight, pattern.key)
    return grad_x


def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return the gradient of each edge's weight, summed over the batch: [rows, slots, bo, bi].

    Empty slots of a pattern with varying degrees get zero. Raises as `forward`.
    """
    grad: Tensor = _grad_weight(grad_y, x, pattern.key)
    return grad


def _backend(x: Tensor) -> backends.Backend:
    return backends.select(x.device.type, x.dtype)


def _autocast(*tensors: Tensor | None) -> list[Any]:
    # register_autocast would fix one dtype at import; the user's choice is read here instead
    first = tensors[0]
    assert first is not None
    dtype = torch.get_autocast_dtype(first.device.type)
    return [
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t
        for t in tensors
    ]


def _checked(key: str, **tensors: Tensor | None) -> Pattern:
    """Return the pattern of a key once the tensors fit it."""
    pattern = Pattern.from_key(key)
    _check(pattern, tensors)
    return pattern


def _check(pattern: Pattern, tensors: dict[str, Tensor | None]) -> None:
    """Compare shapes, dtypes and devices; those of the first tensor set the rule."""
    shapes = {
        "x": (pattern.n_in,),
        "grad_y": (pattern.n_out,),
        "weight": pattern.weight_shape,
        "bias": (pattern.n_out,),
    }
    first_name, first = next(iter(tensors.items()))
    assert first is not None
    if not first.dtype.is_floating_point:
        raise TypeError(f"{first_name} must be floating point, got {first.dtype}")
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        batched = name in ("x", "grad_y")
        if tensor.dim() != len(shapes[name]) + batched or tensor.shape[batched:] != shapes[name]:
            shape = ["batch"] * batched + [str(size) for size in shapes[name]]
            raise ValueError(
                f"{name} must be [{', '.join(shape)}] for {pattern!r}, got {list(tensor.shape)}"
            )
        if tensor.layout != torch.strided:
            raise TypeError(
                f"{name} must be an ordinary tensor, got {tensor.layout}; to_dense() it"
            )
        if tensor.dtype != first.dtype:
            raise TypeError(
                f"{name} is {tensor.dtype} but {first_name} is {first.dtype}; "
                f"convert one, or run under torch.autocast"
            )
        if tensor.device != first.device:
            raise RuntimeError(
                f"{name} is on {tensor.device} but {first_name} is on {first.device}; "
                f"move both to one device"
            )
        if name == "grad_y" and tensor.shape[0] != first.shape[0]:
            raise ValueError(f"x has batch {first.shape[0]} but grad_y has batch {tensor.shape[0]}")

"""The functions of a junction, registered with torch once for every backend.

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
work as well; `backward` gives both, and the bias's, in one call, which a backend may fuse. Where
nothing needs to see an operator (no tracing, no transform), `forward` calls the backend itself,
which more than halves the time of small layers (docs/decisions/0004-eager-path.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

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


@torch.library.custom_op("dnc_sparse::backward", mutates_args=())
def _backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: str, bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    own = _checked(pattern, x=x, weight=weight, grad_y=grad_y)
    grads = _backend(x).backward(grad_y, x, weight, own, bias)
    # an operator's results are tensors
    return (*grads[:2], x.new_empty(0) if grads[2] is None else grads[2])


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


@_backward.register_fake
def _(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: str, bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    own = _checked(pattern, x=x, weight=weight, grad_y=grad_y)
    return (
        x.new_empty(x.shape),
        x.new_empty(own.weight_shape),
        x.new_empty(own.n_out if bias else 0),
    )


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
    ctx: Any, grad_y: Tensor, functions: backends.Backend | _Operators, pattern: Any
) -> tuple[Tensor | None, ...]:
    """Return the needed ones of the gradients in x, weight and bias, by these functions."""
    x, weight, y = ctx.saved_tensors
    if y is not None:
        # torch.relu's own backward; detached, as y tells only signs, whose derivative is zero
        grad_y = torch.ops.aten.threshold_backward(grad_y, y.detach(), 0)
    for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
    # second derivatives are those of the separate operators
    if for_x and for_weight and not torch.is_grad_enabled():
        return functions.backward(grad_y, x, weight, pattern, for_bias)
    return (
        functions.grad_input(grad_y, weight, pattern) if for_x else None,
        functions.grad_weight(grad_y, x, pattern) if for_weight else None,
        grad_y.sum(0) if for_bias else None,
    )


class _Operators:
    """The registered operators in place of a backend's functions; patterns are their keys."""

    grad_input, grad_weight = staticmethod(_grad_input), staticmethod(_grad_weight)

    @staticmethod
    def backward(
        grad_y: Tensor, x: Tensor, weight: Tensor, pattern: str, bias: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        grad_x, grad_weight, grad_bias = _backward(grad_y, x, weight, pattern, bias)
        return grad_x, grad_weight, grad_bias if bias else None


def _backward_of_forward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    return *_gradients(ctx, grad_y, _Operators(), ctx.pattern), None, None


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
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        pattern: Pattern,
        relu: bool,
        backend: backends.Backend,
    ) -> Tensor:
        y = backend.forward(x, weight, bias, pattern, relu)
        _save_forward(ctx, (x, weight, bias, pattern, relu), y)
        ctx.backend = backend
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad_y,) = grads
        # somebody wants second derivatives, which only operators have
        twice = torch.is_grad_enabled()
        own = (
            _gradients(ctx, grad_y, _Operators(), ctx.pattern.key)
            if twice
            else _gradients(ctx, grad_y, ctx.backend, ctx.pattern)
        )
        return *own, None, None, None


# `_Eager.apply` without its search for transforms, which `_needs_operators` has excluded
_eager = super(torch.autograd.Function, _Eager).apply
_PLAIN = (Tensor, torch.nn.Parameter)


def _needs_operators(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a compiler, an exporter, a transform or a tensor subclass looks at each operator."""
    return (
        torch.compiler.is_compiling()
        or type(x) not in _PLAIN
        or type(weight) not in _PLAIN
        or (bias is not None and type(bias) not in _PLAIN)
        or x.is_meta
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )


def _needs_gradient(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether autograd has to know of the call; forward mode, which we lack, to refuse it."""
    return (
        torch.is_grad_enabled()
        and (x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad))
    ) or forward_ad._current_level >= 0


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias over the pattern's edges, through ReLU if asked: [batch, n_out].

    ReLU and its gradients are `torch.relu`'s, at zero and NaN too. Under autocast the operands are
    cast to its dtype first, float64 excepted, as torch does. Raises ValueError for a wrong shape,
    TypeError for dtypes that differ or are not floating, RuntimeError for tensors on different
    devices or when no backend can run.
    """
    if torch._C._is_any_autocast_enabled():
        x, weight, bias = _autocast(x, weight, bias)
    y: Tensor
    if _needs_operators(x, weight, bias):
        y = _forward(x, weight, bias, pattern.key, relu)
        return y
    _check(pattern, {"x": x, "weight": weight, "bias": bias})
    backend = _backend(x)
    if not _needs_gradient(x, weight, bias):
        return backend.forward(x, weight, bias, pattern, relu)
    y = _eager(x, weight, bias, pattern, relu, backend)  # type: ignore[no-untyped-call]
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


def _autocast(x: Tensor, *others: Tensor | None) -> tuple[Any, ...]:
    # register_autocast would fix one dtype at import; the user's choice is read here instead
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return x, *others
    dtype = torch.get_autocast_dtype(x.device.type)
    return tuple(
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t
        for t in (x, *others)
    )


def _checked(key: str, **tensors: Tensor | None) -> Pattern:
    """Return the pattern of a key once the tensors fit it."""
    pattern = Pattern.from_key(key)
    _check(pattern, tensors)
    return pattern


def _check(pattern: Pattern, tensors: dict[str, Tensor | None]) -> None:
    """Compare shapes, dtypes and devices; those of the first tensor set the rule."""
    first_name, first = next(iter(tensors.items()))
    assert first is not None
    dtype, device, shape = first.dtype, first.device, first.shape
    if not dtype.is_floating_point:
        raise TypeError(f"{first_name} must be floating point, got {dtype}")
    shapes = _shapes(pattern, shape[0] if shape else None)
    for name, tensor in tensors.items():
        if tensor is not None and not (
            tensor.shape == shapes[name]
            and tensor.layout == torch.strided
            and tensor.dtype == dtype
            and tensor.device == device
        ):
            raise _misfit(pattern, name, tensor, first_name, first)


def _shapes(pattern: Pattern, batch: Any) -> dict[str, tuple[Any, ...]]:
    return {
        "x": (batch, pattern.n_in),
        "grad_y": (batch, pattern.n_out),
        "weight": pattern.weight_shape,
        "bias": (pattern.n_out,),
    }


def _misfit(
    pattern: Pattern, name: str, tensor: Tensor, first_name: str, first: Tensor
) -> Exception:
    """Say what is wrong with a tensor that `_check` refuses beside the first one."""
    shape = _shapes(pattern, "batch")[name]
    batched = shape[0] == "batch"
    if tensor.dim() != len(shape) or tensor.shape[batched:] != shape[batched:]:
        wanted = ", ".join(map(str, shape))
        return ValueError(f"{name} must be [{wanted}] for {pattern!r}, got {list(tensor.shape)}")
    if tensor.layout != torch.strided:
        return TypeError(f"{name} must be an ordinary tensor, got {tensor.layout}; to_dense() it")
    if tensor.dtype != first.dtype:
        return TypeError(
            f"{name} is {tensor.dtype} but {first_name} is {first.dtype}; "
            f"convert one, or run under torch.autocast"
        )
    if tensor.device != first.device:
        return RuntimeError(
            f"{name} is on {tensor.device} but {first_name} is on {first.device}; "
            f"move both to one device"
        )
    return ValueError(f"x has batch {first.shape[0]} but {name} has batch {tensor.shape[0]}")

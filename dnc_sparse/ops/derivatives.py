"""The operators' derivatives, backwards and forwards, for every transform of torch.

Each of the three functions is linear in each of its two operands, so its derivatives are the other
two, and derivatives of any order are operators again. They stand at the dispatcher's Autograd key,
where torch's own operators have theirs: autograd, `torch.func` at any depth, compilers and
exporters all come through it.

| name    | meaning                                       |
|---------|-----------------------------------------------|
| grad_*  | gradient of the loss in *, which goes backwards |
| dot_*   | tangent of *, which goes forwards             |
| below   | the operator without derivatives              |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import Function
from torch.autograd.forward_ad import _set_fwd_grad_enabled

from dnc_sparse.ops.operators import LIBRARY, backward, forward, grad_input, grad_weight

Below = Callable[..., Tensor]
MaybeTensor = Tensor | None


def gradients(
    ctx: Any,
    grad_y: Tensor,
    saved: tuple[Tensor, Tensor, MaybeTensor],
    functions: Any,
    pattern: Any,
    first: int = 0,
) -> tuple[MaybeTensor, MaybeTensor, MaybeTensor]:
    """Return the needed ones of the gradients in x, weight and bias, by these functions.

    `saved` are x, weight, and y where ReLU made it; `first` is where x stands among the arguments.
    """
    x, weight, y = saved
    if y is not None:
        # torch.relu's own backward; detached, as y tells only signs, whose derivative is zero
        grad_y = torch.ops.aten.threshold_backward(grad_y, y.detach(), 0)
    for_x, for_weight, for_bias = ctx.needs_input_grad[first : first + 3]
    # derivatives of gradients are those of the separate functions
    if for_x and for_weight and not torch.is_grad_enabled():
        grads: tuple[MaybeTensor, ...] = functions.backward(grad_y, x, weight, pattern, for_bias)
        return grads[0], grads[1], grads[2] if for_bias else None
    return (
        functions.grad_input(grad_y, weight, pattern) if for_x else None,
        functions.grad_weight(grad_y, x, pattern) if for_weight else None,
        grad_y.sum(-2) if for_bias else None,
    )


class Operators:
    """The operators in place of a backend's functions; patterns are their keys."""

    grad_input, grad_weight, backward = grad_input, grad_weight, backward


def _seen_by_outer_transforms(jvp: Callable[..., Any]) -> Callable[..., Any]:
    """Let a tangent have tangents: torch calls `jvp` with forward mode off at every level."""

    @wraps(jvp)
    def enabled(ctx: Any, *tangents: Any) -> Any:
        with _set_fwd_grad_enabled(True):
            return jvp(ctx, *tangents)

    return enabled


class Forward(Function):
    @staticmethod
    def forward(
        ctx: Any,
        below: Below,
        x: Tensor,
        weight: Tensor,
        bias: MaybeTensor,
        pattern: str,
        relu: bool,
    ) -> Tensor:
        y = below(x, weight, bias, pattern, relu)
        ctx.pattern = pattern
        ctx.set_materialize_grads(False)
        _, for_x, for_weight, *_ = ctx.needs_input_grad
        ctx.save_for_backward(
            x if for_weight else None, weight if for_x else None, y if relu else None
        )
        ctx.save_for_forward(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: MaybeTensor) -> Any:
        if grads[0] is None:
            return (None,) * 6
        return (
            None,
            *gradients(ctx, grads[0], ctx.saved_tensors, Operators, ctx.pattern, 1),
            None,
            None,
        )

    @staticmethod
    @_seen_by_outer_transforms
    def jvp(ctx: Any, *tangents: Any) -> Any:
        _, dot_x, dot_weight, dot_bias, *_ = tangents
        x, weight, y = ctx.saved_tensors
        terms = []
        if dot_x is not None:
            terms.append(forward(dot_x, _primal(weight), None, ctx.pattern))
        if dot_weight is not None:
            terms.append(forward(_primal(x), dot_weight, None, ctx.pattern))
        if dot_bias is not None:
            samples = x.shape[-2]
            terms.append(dot_bias.unsqueeze(-2).expand(*dot_bias.shape[:-1], samples, -1))
        dot_y = _sum(terms)
        if dot_y is None or y is None:
            return dot_y
        return torch.ops.aten.threshold_backward(dot_y, _primal(y), 0)


class GradInput(Function):
    @staticmethod
    def forward(ctx: Any, below: Below, grad_y: Tensor, weight: Tensor, pattern: str) -> Tensor:
        _save_both(ctx, grad_y, weight, pattern)
        return below(grad_y, weight, pattern)

    @staticmethod
    def backward(ctx: Any, *grads: MaybeTensor) -> Any:
        grad_y, weight = ctx.saved_tensors
        (grad,) = grads
        _, for_grad_y, for_weight, _ = ctx.needs_input_grad
        if grad is None:
            return (None,) * 4
        return (
            None,
            forward(grad, weight, None, ctx.pattern) if for_grad_y else None,
            grad_weight(grad_y, grad, ctx.pattern) if for_weight else None,
            None,
        )

    @staticmethod
    @_seen_by_outer_transforms
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _product_rule(ctx, grad_input, tangents)


class GradWeight(Function):
    @staticmethod
    def forward(ctx: Any, below: Below, grad_y: Tensor, x: Tensor, pattern: str) -> Tensor:
        _save_both(ctx, grad_y, x, pattern)
        return below(grad_y, x, pattern)

    @staticmethod
    def backward(ctx: Any, *grads: MaybeTensor) -> Any:
        grad_y, x = ctx.saved_tensors
        (grad,) = grads
        _, for_grad_y, for_x, _ = ctx.needs_input_grad
        if grad is None:
            return (None,) * 4
        return (
            None,
            forward(x, grad, None, ctx.pattern) if for_grad_y else None,
            grad_input(grad_y, grad, ctx.pattern) if for_x else None,
            None,
        )

    @staticmethod
    @_seen_by_outer_transforms
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _product_rule(ctx, grad_weight, tangents)


def _save_both(ctx: Any, first: Tensor, second: Tensor, pattern: str) -> None:
    ctx.pattern = pattern
    ctx.set_materialize_grads(False)
    for_first, for_second = ctx.needs_input_grad[1:3]
    ctx.save_for_backward(first if for_second else None, second if for_first else None)
    ctx.save_for_forward(first, second)


def _product_rule(ctx: Any, operator: Any, tangents: tuple[Any, ...]) -> MaybeTensor:
    first, second = ctx.saved_tensors
    _, dot_first, dot_second, _ = tangents
    terms = []
    if dot_first is not None:
        terms.append(operator(dot_first, _primal(second), ctx.pattern))
    if dot_second is not None:
        terms.append(operator(_primal(first), dot_second, ctx.pattern))
    return _sum(terms)


def _primal(tensor: Tensor) -> Tensor:
    """Return the tensor without its tangent of the level in work; outer levels keep theirs."""
    return _unpacked(tensor)[0]


def _unpacked(tensor: Tensor) -> tuple[Tensor, MaybeTensor]:
    """Return the tensor without its tangent, and that."""
    # torch has but one level outside of `torch.func`, which keeps its own levels apart; compilers
    # enter it without a word to `forward_ad.unpack_dual`
    primal, tangent = torch._VF._unpack_dual(tensor, level=0)
    return primal, tangent


def _sum(terms: list[Tensor]) -> MaybeTensor:
    total = None
    for term in terms:
        total = term if total is None else total + term
    return total


def _register(name: str, operator: Any, function: type[Function], defaults: dict[int, Any]) -> None:
    """Give an operator the derivatives of an `autograd.Function`, whose first argument is `below`.

    `defaults` are the values of arguments that the dispatcher leaves out.
    """
    # `Function.apply` refuses transforms; this is what it, and torch's own wrapper of them, calls
    apply = super(Function, function).apply  # type: ignore[misc]

    def differentiable(keyset: Any, *arguments: Any) -> Any:
        keyset &= torch._C._after_autograd_keyset
        if not _differentiated(arguments):
            with torch._C._AutoDispatchBelowAutograd():
                return operator.redispatch(keyset, *arguments)
        nested = torch._C._are_functorch_transforms_active()

        def below(*operands: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                if not nested:
                    return operator.redispatch(keyset, *operands)
                # `apply` has switched off derivatives, which the transforms outside of this one
                # have still to take
                with torch.enable_grad(), _set_fwd_grad_enabled(True):
                    return operator.redispatch(keyset, *operands)

        rest = (value for place, value in sorted(defaults.items()) if place >= len(arguments))
        if not nested:
            return apply(below, *arguments, *rest)
        with enable_single_level_autograd_function():
            return apply(below, *arguments, *rest)

    LIBRARY.impl(name, differentiable, "Autograd", with_keyset=True)


def _differentiated(arguments: tuple[Any, ...]) -> bool:
    if torch.is_grad_enabled() and torch._C._any_requires_grad(*arguments):
        return True
    tensors = (a for a in arguments if isinstance(a, Tensor))
    return any(_unpacked(tensor)[1] is not None for tensor in tensors)


def _backward(
    keyset: Any, grad_y: Tensor, x: Tensor, weight: Tensor, pattern: str, bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the operator `backward`, or by the separate ones where they have derivatives."""
    if _differentiated((grad_y, x, weight)):
        return (
            grad_input(grad_y, weight, pattern),
            grad_weight(grad_y, x, pattern),
            grad_y.sum(-2) if bias else x.new_empty(0),
        )
    with torch._C._AutoDispatchBelowAutograd():
        grads: tuple[Tensor, Tensor, Tensor] = backward.redispatch(
            keyset & torch._C._after_autograd_keyset, grad_y, x, weight, pattern, bias
        )
        return grads


_register("forward", forward, Forward, {4: False})
_register("grad_input", grad_input, GradInput, {})
_register("grad_weight", grad_weight, GradWeight, {})
LIBRARY.impl("backward", _backward, "Autograd", with_keyset=True)

"""The operators as torch's dispatcher has them: schemas, kernels and shapes.

| operator    | computes                                                               |
|-------------|------------------------------------------------------------------------|
| forward     | y = x W^T + bias over the edges, through ReLU if asked                 |
| grad_input  | grad_y W                                                               |
| grad_weight | each edge's share of grad_y^T x, zero in empty slots                   |
| backward    | the last two and the bias's gradient (empty without one) in one call   |

Operators take the pattern as its `key` (canonical JSON), so that a compiled or exported graph
carries all it needs. Tensors have the shapes of `dnc_sparse.ops`, or all of them a size in front:
so many junctions with weights of their own, which is what `torch.vmap` makes of an ensemble.
`torch.library.custom_op` would define the same operators, but its derivatives lack forward mode
and refuse `torch.func` (docs/decisions/0010-transforms.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from dnc_sparse import backends
from dnc_sparse.ops.checks import check
from dnc_sparse.patterns import Pattern

LIBRARY: Any = torch.library.Library("dnc_sparse", "FRAGMENT")  # type: ignore[no-untyped-call]

for _schema in (
    "forward(Tensor x, Tensor weight, Tensor? bias, str pattern, bool relu=False) -> Tensor",
    "grad_input(Tensor grad_y, Tensor weight, str pattern) -> Tensor",
    "grad_weight(Tensor grad_y, Tensor x, str pattern) -> Tensor",
    "backward(Tensor grad_y, Tensor x, Tensor weight, str pattern, bool bias)"
    " -> (Tensor, Tensor, Tensor)",
):
    LIBRARY.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))

forward = torch.ops.dnc_sparse.forward.default
grad_input = torch.ops.dnc_sparse.grad_input.default
grad_weight = torch.ops.dnc_sparse.grad_weight.default
backward = torch.ops.dnc_sparse.backward.default

Groups = tuple[Any, ...]
Run = Callable[..., Any]


def kernel(name: str) -> Callable[[Run], Run]:
    """Register what computes an operator, on every device, out of compilers' sight."""

    def register(function: Run) -> Run:
        # as torch.compiler.disable, but imports the compiler at the first call only
        hidden = _disable_dynamo(function)
        LIBRARY.impl(name, hidden, "CompositeExplicitAutograd")
        return function

    return register


def shapes(name: str) -> Callable[[Run], Run]:
    """Register what says how an operator's results look, without computing them."""

    def register(function: Run) -> Run:
        torch.library.register_fake(f"dnc_sparse::{name}", function, lib=LIBRARY)
        return function

    return register


def select(x: Tensor, pattern: Pattern) -> backends.Backend:
    """Return the backend for a tensor's device and dtype and a pattern's block."""
    return backends.select(x.device.type, x.dtype, pattern.block)


@kernel("forward")
def _(x: Tensor, weight: Tensor, bias: Tensor | None, pattern: str, relu: bool = False) -> Tensor:
    own, groups = _checked(pattern, weight, 4, x=x, weight=weight, bias=bias)
    run = select(x, own).forward
    if not groups:
        return run(x, weight, bias, own, relu)
    y = x.new_empty(*groups, x.shape[1], own.n_out)
    for group in range(len(x)):
        group_bias = None if bias is None else bias[group]
        y[group] = run(x[group], weight[group], group_bias, own, relu)
    return y


@kernel("grad_input")
def _(grad_y: Tensor, weight: Tensor, pattern: str) -> Tensor:
    own, groups = _checked(pattern, weight, 4, grad_y=grad_y, weight=weight)
    run = select(grad_y, own).grad_input
    if not groups:
        return run(grad_y, weight, own)
    grad_x = grad_y.new_empty(*groups, grad_y.shape[1], own.n_in)
    for group in range(len(grad_y)):
        grad_x[group] = run(grad_y[group], weight[group], own)
    return grad_x


@kernel("grad_weight")
def _(grad_y: Tensor, x: Tensor, pattern: str) -> Tensor:
    own, groups = _checked(pattern, grad_y, 2, x=x, grad_y=grad_y)
    if not groups:
        return select(x, own).grad_weight(grad_y, x, own)
    if grad_y.shape[1] == 1:
        return _outer(grad_y[:, 0], x[:, 0], own)
    run = select(x, own).grad_weight
    grad = x.new_empty(*groups, *own.weight_shape)
    for group in range(len(x)):
        grad[group] = run(grad_y[group], x[group], own)
    return grad


@kernel("backward")
def _(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: str, bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    own, groups = _checked(pattern, weight, 4, x=x, weight=weight, grad_y=grad_y)
    if groups:
        return (
            grad_input(grad_y, weight, pattern),
            grad_weight(grad_y, x, pattern),
            grad_y.sum(-2) if bias else x.new_empty(0),
        )
    grads = select(x, own).backward(grad_y, x, weight, own, bias)
    # an operator's results are tensors
    return (*grads[:2], x.new_empty(0) if grads[2] is None else grads[2])


def _outer(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return each sample's gradient of the weight, of [samples, n_out] and [samples, n_in].

    One product per edge and sample, so nothing is summed: no kernel is needed, and a loop over
    samples would call one for each.
    """
    bo, bi = pattern.block
    sources = torch.from_numpy(pattern.sources.copy()).to(x.device).long()
    samples = x.reshape(-1, pattern.columns, bi)[:, sources.clamp_min(0)].unsqueeze(-2)
    outputs = grad_y.reshape(-1, pattern.rows, 1, bo, 1)
    if pattern.compact:
        outputs = outputs[:, torch.from_numpy(pattern.row_of).to(x.device).long()]
    grad: Tensor = samples * outputs
    if pattern.n_edges < sources.numel() * bo * bi:
        # infinity times zero would not be zero
        grad.masked_fill_((sources < 0)[:, :, None, None], 0)
    return grad


@shapes("forward")
def _(x: Tensor, weight: Tensor, bias: Tensor | None, pattern: str, relu: bool = False) -> Tensor:
    own, groups = _checked(pattern, weight, 4, x=x, weight=weight, bias=bias)
    return x.new_empty(*groups, x.shape[-2], own.n_out)


@shapes("grad_input")
def _(grad_y: Tensor, weight: Tensor, pattern: str) -> Tensor:
    own, groups = _checked(pattern, weight, 4, grad_y=grad_y, weight=weight)
    return grad_y.new_empty(*groups, grad_y.shape[-2], own.n_in)


@shapes("grad_weight")
def _(grad_y: Tensor, x: Tensor, pattern: str) -> Tensor:
    own, groups = _checked(pattern, grad_y, 2, x=x, grad_y=grad_y)
    return x.new_empty(*groups, *own.weight_shape)


@shapes("backward")
def _(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: str, bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    own, groups = _checked(pattern, weight, 4, x=x, weight=weight, grad_y=grad_y)
    return (
        x.new_empty(x.shape),
        x.new_empty(*groups, *own.weight_shape),
        x.new_empty(*groups, own.n_out) if bias else x.new_empty(0),
    )


def _checked(
    key: str, leading: Tensor, dimensions: int, **tensors: Tensor | None
) -> tuple[Pattern, Groups]:
    """Return the pattern of a key once the tensors fit it, and the size in front of all, or ().

    `leading` tells whether there is one: it has more than `dimensions`.
    """
    pattern = Pattern.from_key(key)
    groups: Groups = tuple(leading.shape[:1]) if leading.dim() == dimensions + 1 else ()
    check(pattern, tensors, groups)
    return pattern, groups

"""The functions of a junction, as layers call them; all of torch's machinery may look on.

| name   | meaning                                    | shape                 |
|--------|--------------------------------------------|-----------------------|
| x      | activations of the left layer              | [batch, n_in]         |
| weight | one number per edge, in the pattern's slots | [rows, slots, bo, bi] |
| bias   | one number per right neuron                | [n_out]               |
| relu   | whether negative activations become zero   |                       |
| y      | activations of the right layer             | [batch, n_out]        |
| grad_* | gradient of the loss in *                  | as *                  |

`operators` registers them with torch once for every backend, `derivatives` and `batching` say what
autograd, forward mode and `torch.vmap` make of them, and `eager` is the short road that plain calls
take. docs/decisions/0010-transforms.md tells why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from dnc_sparse.ops import batching as batching
from dnc_sparse.ops import derivatives as derivatives
from dnc_sparse.ops import eager, operators
from dnc_sparse.ops import flops as flops
from dnc_sparse.ops.checks import check, misfit
from dnc_sparse.ops.eager import needs_operators
from dnc_sparse.patterns import Pattern

__all__ = ["forward", "grad_input", "grad_weight", "keyed_linear", "linear"]


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return `forward` for any leading sizes of x, none included: [..., n_out].

    Nested tensors give nested tensors. Raises as `forward`.
    """
    if needs_operators(x, weight, bias):
        return keyed_linear(x, weight, bias, pattern.key, relu)
    if x.dim() != 2:
        return _by_rows(x, pattern.key, lambda rows: linear(rows, weight, bias, pattern, relu))
    if torch._C._is_any_autocast_enabled():
        x, weight, bias = _autocast(x, weight, bias)
    check(pattern, {"x": x, "weight": weight, "bias": bias})
    return eager.forward(x, weight, bias, pattern, relu)


def keyed_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, key: str, relu: bool = False
) -> Tensor:
    """Return `linear` for the pattern of a `key`: what tensor subclasses and modes get to see.

    `torch.fx` writes this call into its graphs, which can hold a text but no pattern.
    """
    y: Tensor
    if has_torch_function_variadic(x, weight, bias):
        arguments = (x, weight, bias, key, relu)
        y = handle_torch_function(keyed_linear, arguments[:3], *arguments)
        return y
    if not needs_operators(x, weight, bias):
        return linear(x, weight, bias, Pattern.from_key(key), relu)
    if x.dim() != 2 or x.is_nested:
        return _by_rows(x, key, lambda rows: keyed_linear(rows, weight, bias, key, relu))
    _check_layout(x)
    _refuse_legacy_onnx()
    if torch._C._is_any_autocast_enabled():
        x, weight, bias = _autocast(x, weight, bias)
    y = operators.forward(x, weight, bias, key, relu)
    return y


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias over the pattern's edges, through ReLU if asked: [batch, n_out].

    ReLU and its gradients are `torch.relu`'s, at zero and NaN too. Under autocast the operands are
    cast to its dtype first, float64 excepted, as torch does. Raises ValueError for a wrong shape,
    TypeError for dtypes that differ or are not floating, RuntimeError for tensors on different
    devices or when no backend can run.
    """
    if x.dim() != 2:
        raise misfit(pattern, "x", x, "x", x)
    return linear(x, weight, bias, pattern, relu)


def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return the gradient in x, grad_y W: [batch, n_in]. Raises as `forward`."""
    check(pattern, {"grad_y": grad_y, "weight": weight})
    grad_x: Tensor = operators.grad_input(grad_y, weight, pattern.key)
    return grad_x


def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return the gradient of each edge's weight, summed over the batch: [rows, slots, bo, bi].

    Empty slots of a pattern with varying degrees get zero. Raises as `forward`.
    """
    check(pattern, {"x": x, "grad_y": grad_y})
    grad: Tensor = operators.grad_weight(grad_y, x, pattern.key)
    return grad


def _by_rows(x: Tensor, key: str, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Run with an x that is no matrix as one: [..., n_out]."""
    if x.is_nested:
        return _by_parts(x, run)
    if x.dim() == 0:
        raise misfit(Pattern.from_key(key), "x", x, "x", x)
    _check_layout(x)
    y = run(x.flatten(0, -2) if x.dim() > 2 else x.reshape(1, -1))
    return y.reshape(*x.shape[:-1], y.shape[-1])


def _by_parts(x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Run with all rows of a nested tensor at once, and nest what comes out as they were."""
    nested: Tensor
    if x.layout == torch.jagged:
        if isinstance(x.shape[1], int):
            raise ValueError(
                f"x is a nested tensor whose lengths differ in another than its second dimension, "
                f"got {list(x.shape)}; transpose it so that they do there"
            )
        y = run(x.values())
        nested = torch.nested.nested_tensor_from_jagged(y, x.offsets(), x.lengths())
        return nested
    parts = x.unbind()
    rows = [part.reshape(-1, part.shape[-1]) for part in parts]
    results = torch.split(run(torch.cat(rows)), [len(r) for r in rows])
    nested = torch.nested.as_nested_tensor(
        [y.reshape(*part.shape[:-1], -1) for y, part in zip(results, parts, strict=True)]
    )
    return nested


def _check_layout(x: Tensor) -> None:
    if x.layout != torch.strided:
        raise TypeError(f"x must be an ordinary tensor, got {x.layout}; to_dense() it")


def _refuse_legacy_onnx() -> None:
    if torch._C._get_tracing_state() is not None and torch.onnx.is_in_onnx_export():
        raise RuntimeError(
            "torch.onnx.export(dynamo=False) has no translation of sparse layers; export with "
            "dnc_sparse.onnx.export(model, args, file), or make the model dense by densify(model)"
        )


def _autocast(x: Tensor, *others: Tensor | None) -> tuple[Any, ...]:
    # register_autocast would fix one dtype at import; the user's choice is read here instead
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return x, *others
    dtype = torch.get_autocast_dtype(x.device.type)
    return tuple(
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t
        for t in (x, *others)
    )

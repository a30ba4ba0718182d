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

from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from dnc_sparse.ops import batching as batching
from dnc_sparse.ops import derivatives as derivatives
from dnc_sparse.ops import eager, operators
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
    seen = needs_operators(x, weight, bias)
    if seen and has_torch_function_variadic(x, weight, bias):
        arguments = (x, weight, bias, pattern.key, relu)
        y: Tensor = handle_torch_function(keyed_linear, arguments[:3], *arguments)
        return y
    if x.dim() != 2 or x.is_nested:
        return _of_rows(x, weight, bias, pattern, relu)
    if torch._C._is_any_autocast_enabled():
        x, weight, bias = _autocast(x, weight, bias)
    if seen:
        _refuse_legacy_onnx()
        y = operators.forward(x, weight, bias, pattern.key, relu)
        return y
    check(pattern, {"x": x, "weight": weight, "bias": bias})
    return eager.forward(x, weight, bias, pattern, relu)


def keyed_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, key: str, relu: bool = False
) -> Tensor:
    """Return `linear` for the pattern of a `key`: what tensor subclasses and modes get to see.

    `torch.fx` writes this call into its graphs, which can hold a text but no pattern.
    """
    return linear(x, weight, bias, Pattern.from_key(key), relu)


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


def _of_rows(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool
) -> Tensor:
    """Compute `linear` of an x that is no matrix by one that is."""
    if x.is_nested:
        return _of_nested(x, weight, bias, pattern, relu)
    if x.dim() == 0 or x.layout != torch.strided:
        raise misfit(pattern, "x", x, "x", x)
    rows = x.flatten(0, -2) if x.dim() > 2 else x.reshape(1, -1)
    y = linear(rows, weight, bias, pattern, relu)
    return y.reshape(*x.shape[:-1], pattern.n_out)


def _of_nested(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool
) -> Tensor:
    nested: Tensor
    if x.layout == torch.jagged:
        if isinstance(x.shape[1], int):
            raise ValueError(
                f"x is a nested tensor whose lengths vary in another than its second dimension, "
                f"got {list(x.shape)}; transpose it so that they do"
            )
        y = linear(x.values(), weight, bias, pattern, relu)
        nested = torch.nested.nested_tensor_from_jagged(y, x.offsets(), x.lengths())
        return nested
    parts = x.unbind()
    y = linear(torch.cat([p.flatten(0, -2) for p in parts]), weight, bias, pattern, relu)
    split = y.split([p[..., 0].numel() for p in parts])
    nested = torch.nested.as_nested_tensor(
        [t.reshape(*p.shape[:-1], pattern.n_out) for t, p in zip(split, parts, strict=True)]
    )
    return nested


def _refuse_legacy_onnx() -> None:
    if torch.jit.is_tracing() and torch.onnx.is_in_onnx_export():
        raise RuntimeError(
            "torch.onnx.export(dynamo=False) has no translation of sparse layers; export with "
            "dynamo=True, or put layer.to_dense() in each one's place first"
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

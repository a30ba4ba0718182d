"""Keep torch's fused encoder kernel away from layers whose feed-forward part is sparse.

In eval mode `nn.TransformerEncoderLayer` hands the weights of linear1 and linear2 to one dense
kernel instead of calling the two layers, and `nn.TransformerEncoder` packs padded batches into
nested tensors for it. Both decide by attributes, which are set here to their documented "no".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from dnc_sparse.nn.linear import SparseLinear

# 0 stands for "neither relu nor gelu"; the activation itself is kept elsewhere
_UNFUSED = (
    (nn.TransformerEncoderLayer, "activation_relu_or_gelu", 0),
    (nn.TransformerEncoder, "use_nested_tensor", False),
)


def avoid_fused_encoder(model: nn.Module) -> None:
    """Make each encoder layer with a `SparseLinear` in it call its layers one by one in eval mode.

    `sparsify` does this itself; call it after putting a `SparseLinear` into an encoder by hand,
    where torch would otherwise stop with "2d weights expected". Results do not change, except that
    torch sets padded positions to zero in its fused path and computes them in this one.
    """
    for module, name, value in _switches(model):
        if any(isinstance(child, SparseLinear) for child in module.modules()):
            setattr(module, name, value)


@contextmanager
def unfused(model: nn.Module) -> Iterator[None]:
    """Make every encoder layer call its layers one by one, within the context."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _switches(model)]
    try:
        for module, name, value in _switches(model):
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _switches(model: nn.Module) -> list[tuple[nn.Module, str, object]]:
    return [
        (module, name, value)
        for module in model.modules()
        for kind, name, value in _UNFUSED
        if isinstance(module, kind) and hasattr(module, name)
    ]

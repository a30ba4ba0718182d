"""Keep torch's fused encoder kernel away from layers whose feed-forward part is sparse.

In eval mode `nn.TransformerEncoderLayer` hands the weights of linear1 and linear2 to one dense
kernel instead of calling the two layers, and `nn.TransformerEncoder` packs padded batches into
nested tensors for it. Both decide by attributes, which are set here to their documented "no".
"""

from __future__ import annotations

from torch import nn

from dnc_sparse.nn.linear import SparseLinear


def avoid_fused_encoder(model: nn.Module) -> None:
    """Make each encoder layer with a `SparseLinear` in it call its layers one by one in eval mode.

    `sparsify` does this itself; call it after putting a `SparseLinear` into an encoder by hand,
    where torch would otherwise stop with "2d weights expected". Results do not change, except that
    torch sets padded positions to zero in its fused path and computes them in this one.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and _is_sparse(module):
            # 0 stands for "neither relu nor gelu"; the activation itself is kept elsewhere
            module.activation_relu_or_gelu = 0
        elif isinstance(module, nn.TransformerEncoder) and _is_sparse(module):
            module.use_nested_tensor = False


def _is_sparse(module: nn.Module) -> bool:
    return any(isinstance(child, SparseLinear) for child in module.modules())

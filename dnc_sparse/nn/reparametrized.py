"""Reparametrizations of torch that take a weight for the matrix it is stored as.

A sparse weight is stored by slots, so its spectral norm, its orthogonality and the norms of its
outputs are not those of the [n_out, n_in] matrix that the layer computes with.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from dnc_sparse.patterns import Pattern

_SPECTRAL = (SpectralNorm, parametrizations._SpectralNorm)
_ORTHOGONAL = (parametrizations._Orthogonal,)
_NORMS = (WeightNorm, parametrizations._WeightNorm)


def refuse_reparametrized(layer: nn.Module, pattern: Pattern) -> None:
    """Raise RuntimeError where a reparametrization of the weight means another matrix."""
    kinds: list[object] = list(layer._forward_pre_hooks.values())
    if parametrize.is_parametrized(layer, "weight"):
        kinds += list(layer.parametrizations.weight)  # type: ignore[union-attr, arg-type]
    for kind in kinds:
        reason = _reason(kind, pattern)
        if reason is not None:
            raise RuntimeError(
                f"{layer!r} cannot be used with {reason}; leave the layer dense (skip= in "
                f"sparsify), or normalise what it computes"
            )


def _reason(kind: object, pattern: Pattern) -> str | None:
    if isinstance(kind, _SPECTRAL):
        return "spectral_norm: it would take the largest singular value of the stored slots"
    if isinstance(kind, _ORTHOGONAL):
        return "orthogonal: it would make the stored slots orthogonal, not the sparse matrix"
    rows = pattern.block[0] == 1 and not pattern.compact
    if isinstance(kind, _NORMS) and not (rows and kind.dim == 0):
        return (
            f"weight_norm over this pattern: its weight is stored as {list(pattern.weight_shape)}, "
            f"in which dimension {kind.dim} is not one output each"
        )
    return None

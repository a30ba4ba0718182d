"""Initialisers that know the true fan-in and fan-out of a sparse layer, named as in torch.nn.init.

They take a layer or a whole model, not a weight: the shape of a sparse weight does not tell how
many edges a neuron has, so that `torch.nn.init.kaiming_normal_(layer.weight)` draws too little for
blocks, and `xavier_*` for all.
"""

from dnc_sparse.nn.init import (
    constant_,
    he_normal_,
    kaiming_normal_,
    kaiming_uniform_,
    normal_,
    ones_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
    zeros_,
)

__all__ = [
    "constant_",
    "he_normal_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

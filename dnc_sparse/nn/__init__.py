"""Sparse layers and models for PyTorch, and `sparsify`, which puts them into any model."""

from dnc_sparse.nn.densify import densify
from dnc_sparse.nn.fused import avoid_fused_encoder
from dnc_sparse.nn.init import he_normal_
from dnc_sparse.nn.like import sparsify_like
from dnc_sparse.nn.linear import SparseLinear
from dnc_sparse.nn.mlp import SparseMLP
from dnc_sparse.nn.report import OtherWeights, Report, ReportRow, conversion_report
from dnc_sparse.nn.sparsify import sparsify

__all__ = [
    "OtherWeights",
    "Report",
    "ReportRow",
    "SparseLinear",
    "SparseMLP",
    "avoid_fused_encoder",
    "conversion_report",
    "densify",
    "he_normal_",
    "sparsify",
    "sparsify_like",
]

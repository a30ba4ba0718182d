"""Pre-defined sparse layers for PyTorch: fix the pattern before training, store nothing else."""

from importlib.metadata import version

__version__ = version("dnc-sparse")

from dnc_sparse.backends.explanation import explain
from dnc_sparse.nn import (
    SparseLinear,
    SparseMLP,
    conversion_report,
    densify,
    sparsify,
    sparsify_like,
)
from dnc_sparse.patterns import Pattern

__all__ = [
    "Pattern",
    "SparseLinear",
    "SparseMLP",
    "__version__",
    "conversion_report",
    "densify",
    "explain",
    "sparsify",
    "sparsify_like",
]

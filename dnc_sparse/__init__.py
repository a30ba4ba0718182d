"""Pre-defined sparse layers for PyTorch: fix the pattern before training, store nothing else."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("dnc-sparse")

from dnc_sparse.backends.explanation import explain
from dnc_sparse.nn import SparseLinear, SparseMLP, densify, sparsify, sparsify_like
from dnc_sparse.patterns import Pattern

__all__ = [
    "Pattern",
    "SparseLinear",
    "SparseMLP",
    "__version__",
    "advise",
    "densify",
    "explain",
    "sparsify",
    "sparsify_like",
]

# names whose modules are imported when they are first asked for
_LATER = {"advise": "dnc_sparse.advice"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)

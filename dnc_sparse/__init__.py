"""Weight-sparse training for PyTorch: fix the connections, store and train nothing else.

Importing it registers the operators, so that programs which name them load. Without torch the
patterns (`dnc_sparse.patterns`) and the simulator (`dnc_hw`) still work; layers then raise
ImportError when they are asked for.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

__version__ = version("dnc-sparse")

from dnc_sparse.starting import ctrl_c_ends

if TYPE_CHECKING:
    from dnc_sparse.advice.advise import advise

# seconds pass here
with ctrl_c_ends():
    from dnc_sparse.patterns import Pattern

    try:
        import torch as _torch  # noqa: F401
    except ImportError as _error:
        _missing: ImportError | None = _error
    else:
        _missing = None

    if TYPE_CHECKING or _missing is None:
        from dnc_sparse.backends.explanation import explain
        from dnc_sparse.nn.densify import densify
        from dnc_sparse.nn.like import sparsify_like
        from dnc_sparse.nn.linear import SparseLinear
        from dnc_sparse.nn.mlp import SparseMLP
        from dnc_sparse.nn.report import conversion_report
        from dnc_sparse.nn.sparsify import sparsify

__all__ = [
    "Pattern",
    "SparseLinear",
    "SparseMLP",
    "__version__",
    "advise",
    "conversion_report",
    "densify",
    "explain",
    "sparsify",
    "sparsify_like",
]

# names whose modules are imported when they are first asked for
_LATER = {"advise": "dnc_sparse.advice"}

if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if _missing is not None:
            raise ImportError(
                f"dnc_sparse.{name} needs torch, which cannot be imported here ({_missing}): "
                f"pip install torch; dnc_sparse.patterns and dnc_hw work without",
                name="torch",
            ) from _missing
        return getattr(import_module(_LATER[name]), name)

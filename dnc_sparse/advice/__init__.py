"""Which linear layers of a model would gain from sparsity on this machine, by measurement."""

from dnc_sparse.advice.advise import advise
from dnc_sparse.advice.report import Advice, LayerAdvice, Option, Plan

__all__ = ["Advice", "LayerAdvice", "Option", "Plan", "advise"]

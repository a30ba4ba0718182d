"""Numbers too small for float32's full precision count as zeros while a network is trained.

Adam's moments of a weight whose gradient stays zero (a dead unit, a pixel that is seldom lit, a
rare word) decay into the denormal numbers, below 1.2e-38, which a processor handles some hundred
times slower than others; so do weights that nothing but weight decay moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dnc_sparse.backends.compiled import load


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Let denormal numbers be zeros, in a training loop of your own too.

    In the calling thread and in the others that share torch's work, or without the compiled module
    in the calling one alone; afterwards as it was before.
    """
    before = _flush(True)
    try:
        yield
    finally:
        _flush(before)


def _flush(flush: bool) -> bool:
    """Switch it on or off, and return whether it was on."""
    module = load("dnc_sparse._cpu")
    if module is not None:
        before: bool = module.flush_denormals(flush, torch.get_num_threads())
        return before
    before = float(torch.tensor(2e-38) * 0.5) == 0
    torch.set_flush_denormal(flush)
    return before

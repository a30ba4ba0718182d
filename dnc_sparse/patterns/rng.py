"""Random draws whose values never change between numpy versions.

numpy promises a stable stream for its bit generators, not for the methods of `Generator`; a
pattern rebuilt from its seed must be the same for ever, so every draw here starts from raw words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dnc_sparse.patterns.sizes import whole


class Rng:
    """PCG64 words turned into permutations and integers."""

    def __init__(self, seed: int) -> None:
        seed = whole("seed", seed)
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self._bits = np.random.PCG64(seed)

    def _words(self, *shape: int) -> NDArray[np.uint64]:
        size = int(np.prod(shape))
        words: NDArray[np.uint64] = self._bits.random_raw(size).reshape(shape)
        return words

    def permutations(self, count: int, n: int) -> NDArray[np.int64]:
        """Draw independent uniform permutations of 0..n-1: [count, n]."""
        return np.argsort(self._words(count, n), axis=1, kind="stable")

    def permutation(self, n: int) -> NDArray[np.int64]:
        """Draw one uniform permutation of 0..n-1: [n]."""
        drawn: NDArray[np.int64] = self.permutations(1, n)[0]
        return drawn

    def integers(self, n: int, *shape: int) -> NDArray[np.int64]:
        """Draw uniform integers in 0..n-1 of the given shape."""
        # the bias of the remainder is below n / 2**64
        return (self._words(*shape) % np.uint64(n)).astype(np.int64)

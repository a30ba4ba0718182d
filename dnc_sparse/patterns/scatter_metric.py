"""How evenly a pattern spreads its edges over windows of neighbouring neurons.

| name    | meaning                                                       | shape           |
|---------|---------------------------------------------------------------|-----------------|
| windows | the neurons of each window of a layer                         | [count, width]  |
| paths   | ways from each left to each right neuron; of one junction 0/1 | [n_out, n_in]   |
| degree  | mean paths into a right neuron                                |                 |
| ideal   | paths between a window and a neuron if evenly spread          |                 |

Forward: count the paths from every window of the left layer to every right neuron; backward: from
every window of the right layer to every left neuron. The score is the mean of min(count / ideal, 1)
with ideal = width * (mean paths of a pair), so 1 is perfectly spread. The equivalent junction of a
network has the product of its junctions' adjacencies as paths and the product of their degrees as
degree (Dey et al., ITA 2018, arXiv 1711.02131, and the published code).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import scipy.sparse
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dnc_sparse.patterns.pattern import Pattern

Windows = NDArray[np.int64]


def windows_1d(n: int, width: int, stride: int = 1) -> Windows:
    """Return windows of `width` consecutive neurons, `stride` apart: [count, width].

    Raises ValueError for a width outside 1..n or a stride below 1.
    """
    if not 1 <= width <= n or stride < 1:
        raise ValueError(
            f"windows of width {width} and stride {stride} do not fit {n} neurons; "
            f"choose a width in 1..{n} and a stride of at least 1"
        )
    return sliding_window_view(np.arange(n), width)[::stride]


def windows_2d(
    height: int, width: int, window: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> Windows:
    """Return windows of an image stored row by row: [count, window height * window width].

    Raises ValueError for a window larger than the image or a stride below 1.
    """
    if not (1 <= window[0] <= height and 1 <= window[1] <= width) or min(stride) < 1:
        raise ValueError(
            f"windows {window[0]}x{window[1]} with stride {stride[0]}x{stride[1]} do not fit an "
            f"image of {height}x{width}; choose a smaller window and strides of at least 1"
        )
    image = np.arange(height * width).reshape(height, width)
    places = sliding_window_view(image, window)[:: stride[0], :: stride[1]]
    return places.reshape(-1, window[0] * window[1])


@dataclass(frozen=True)
class Scatter:
    """Scatter of a network: (forward, backward) of each junction, and of the equivalent junction.

    A single junction is its own equivalent and is listed once.
    """

    junctions: tuple[tuple[float, float], ...]
    equivalent: tuple[float, float]

    @property
    def vector(self) -> tuple[float, ...]:
        """S1 forward, S1 backward, S2 forward, ..., then forward and backward of the whole."""
        whole = self.equivalent if len(self.junctions) > 1 else ()
        return (*(score for pair in self.junctions for score in pair), *whole)

    @property
    def minimum(self) -> float:
        """The smallest score; low values predict poor accuracy on inputs with low redundancy."""
        return min(self.vector)


def scatter(
    *patterns: Pattern,
    windows: Sequence[tuple[Windows, Windows] | None] | None = None,
) -> Scatter:
    """Measure the scatter of the junctions of a network, given from input to output.

    `windows` has a (left, right) pair of each junction and then of the equivalent junction; None
    stands for neighbouring windows just wide enough that the ideal count is about one.

    Raises ValueError for no pattern, layers that do not meet, or another number of windows.
    """
    _check_chain(patterns)
    pairs = [None] * (len(patterns) + 1) if windows is None else list(windows)
    if len(pairs) != len(patterns) + 1:
        raise ValueError(
            f"{len(patterns)} junctions take {len(patterns) + 1} pairs of windows (the last for "
            f"the equivalent junction), got {len(pairs)}"
        )
    masks = [_mask(pattern) for pattern in patterns]
    junctions = tuple(
        _scores(mask, pattern.density, pair)
        for mask, pattern, pair in zip(masks, patterns, pairs[:-1], strict=True)
    )
    if len(patterns) == 1:
        return Scatter(junctions, junctions[0])
    paths = masks[0]
    for mask in masks[1:]:
        paths = mask @ paths
    degree = prod(pattern.density * pattern.n_in for pattern in patterns)
    return Scatter(junctions, _scores(paths, degree / patterns[0].n_in, pairs[-1]))


def _mask(pattern: Pattern) -> Any:
    """Return the adjacency as a sparse matrix, so that giant junctions can be measured."""
    blocks = np.ones((len(pattern.indices), *pattern.block))
    stored = (blocks, pattern.indices.copy(), pattern.indptr.copy())
    return scipy.sparse.bsr_array(stored, shape=(pattern.n_out, pattern.n_in)).tocsr()


def _scores(
    paths: Any, paths_per_pair: float, pair: tuple[Windows, Windows] | None
) -> tuple[float, float]:
    n_out, n_in = paths.shape
    left, right = pair or (_default(n_in, paths_per_pair), _default(n_out, paths_per_pair))
    return _score(paths, left, paths_per_pair), _score(paths.T, right, paths_per_pair)


def _score(paths: Any, windows: Windows, paths_per_pair: float) -> float:
    if not paths_per_pair:
        return 0.0
    member = np.zeros((paths.shape[1], len(windows)))
    member[windows, np.arange(len(windows))[:, None]] = 1
    ideal = windows.shape[1] * paths_per_pair
    return float(np.minimum(paths @ member / ideal, 1).mean())


def _default(n: int, paths_per_pair: float) -> Windows:
    width = min(max(round(1 / paths_per_pair), 1), n) if paths_per_pair else n
    return windows_1d(n, width, width)


def _check_chain(patterns: Sequence[Pattern]) -> None:
    if not patterns:
        raise ValueError("scatter needs at least one pattern")
    for i, (left, right) in enumerate(pairwise(patterns), start=1):
        if left.n_out != right.n_in:
            raise ValueError(
                f"junction {i} ends in {left.n_out} neurons but junction {i + 1} starts from "
                f"{right.n_in}; give the patterns from input to output"
            )

"""Morse symbols on a noisy line: a classification task that is generated, at any difficulty.

Every variant of Dey, Chugg, Beerel, "Morse Code Datasets for Machine Learning", ICCCNT 2018,
arXiv:1807.04239, by the rule of its published code. A frame is a row of cells on a scale of 0..16;
dots and dashes are marks, gaps between them are zero.

| name     | meaning                                                          | shape           |
|----------|------------------------------------------------------------------|-----------------|
| segments | marks and the gaps between them, alternately                     |                 |
| low/high | shortest and longest segment, in cells                           | [segments]      |
| ends     | cells from the first mark to the end of each segment             | [count, segments] |
| marked   | whether a cell belongs to a mark                                 | [count, cells]  |
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dnc_sparse.data.codebook import DISTINCT, PUBLISHED
from dnc_sparse.data.dataset import DataSet, Split
from dnc_sparse.data.tensors import tensor

SCALE = 16
MARK_MEAN, MARK_SD = 12, 1.34
SERIES = ("1", "2", "3", "4")
SIGMAS = ("0", "1", "2", "3", "4")
VARIANTS = tuple(f"{series}.{sigma}" for series in SERIES for sigma in SIGMAS)
SAMPLES_PER_CLASS = 7000
# 5000 to train, 1000 to validate, 1000 to test
SHARES = 7


@dataclass(frozen=True)
class _Rule:
    sigma: int
    lead: bool = False
    dash: tuple[int, int] = (4, 9)
    dilation: int = 1
    dot: tuple[int, int] = (1, 3)
    gap: tuple[int, int] = (1, 3)
    cells: int = 64

    def dilated(self) -> _Rule:
        def by(span: tuple[int, int]) -> tuple[int, int]:
            return (span[0] * self.dilation, span[1] * self.dilation)

        return replace(
            self,
            dash=by(self.dash),
            dot=by(self.dot),
            gap=by(self.gap),
            cells=self.cells * self.dilation,
            dilation=1,
        )


def morse(
    variant: str = "1.0",
    *,
    samples_per_class: int = SAMPLES_PER_CLASS,
    distinct_codes: bool = False,
    max_flips: int | None = None,
    seed: int = 0,
) -> DataSet:
    """Draw a Morse set: 64 classes, 64 features in [0, 1] (256 in series 4).

    `variant` is "series.sigma": series 1 starts each symbol at the left; 2 starts it anywhere; 3
    also has dashes of 3..9 cells in place of 4..9; 4 is 3 with every length times four. sigma,
    0..4, is the standard deviation of the noise on every cell. Of each class's samples a seventh
    validates, a seventh tests and the rest trains; each split is shuffled.

    The published code book has one code twice (see `codebook`), so that accuracy stays below
    98.44 %; `distinct_codes` gives the class H^ the free code of A grave. With `max_flips` the set
    is the black and white one: cells are 0 or 1, and uniformly 0..max_flips of them are inverted.
    Equal arguments give equal sets on one version of numpy.

    Raises ValueError for an unknown variant, fewer than three samples per class, more flips than
    cells, and noise together with flips.
    """
    rule = _rule(variant)
    if samples_per_class < 3:
        raise ValueError(
            f"{samples_per_class} samples per class cannot be split in train, validation and test; "
            f"choose 3 or more"
        )
    if max_flips is not None and not 0 <= max_flips <= rule.cells:
        raise ValueError(f"max_flips {max_flips} must be within 0..{rule.cells}, the cells")
    if max_flips is not None and rule.sigma:
        raise ValueError(
            f"Morse {variant} has normal noise, which a black and white set cannot show; "
            f"give max_flips with variant {variant[0]}.0"
        )
    rng = np.random.default_rng(seed)
    codes = DISTINCT if distinct_codes else PUBLISHED
    part = max(1, samples_per_class // SHARES)
    sizes = {"train": samples_per_class - 2 * part, "validation": part, "test": part}
    order = {name: rng.permutation(len(codes) * size) for name, size in sizes.items()}
    x = {name: np.empty((len(order[name]), rule.cells), np.float32) for name in sizes}
    y = {name: np.empty(len(order[name]), np.int64) for name in sizes}
    for label, code in enumerate(codes.values()):
        marked = _marked(code, samples_per_class, rule, rng)
        frames = (
            _grey(marked, rule.sigma, rng) if max_flips is None else _flip(marked, max_flips, rng)
        )
        taken = 0
        for name, size in sizes.items():
            rows = order[name][label * size : (label + 1) * size]
            x[name][rows] = frames[taken : taken + size]
            y[name][rows] = label
            taken += size
    splits = {name: Split(tensor(x[name]), tensor(y[name])) for name in sizes}
    return DataSet(
        f"morse-{variant}",
        splits["train"],
        splits["test"],
        splits["validation"],
        len(codes),
        tuple(codes),
    )


def _rule(variant: str) -> _Rule:
    if variant not in VARIANTS:
        raise ValueError(
            f"unknown Morse variant {variant!r}; choose series 1..4 and noise 0..4, "
            f"from '1.0' to '4.4'"
        )
    series, sigma = variant.split(".")
    rule = _Rule(int(sigma), lead=series != "1")
    if series in "34":
        rule = replace(rule, dash=(3, 9))
    return replace(rule, dilation=4).dilated() if series == "4" else rule


def _marked(code: str, count: int, rule: _Rule, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw lengths and place the symbol: [count, cells]."""
    spans = [rule.gap] * (2 * len(code) - 1)
    spans[::2] = [rule.dot if mark == "." else rule.dash for mark in code]
    low, high = np.array(spans).T
    ends = rng.integers(low, high, size=(count, len(spans)), endpoint=True).cumsum(axis=1)
    free = rule.cells - ends[:, -1:]
    start = rng.integers(0, free, endpoint=True) if rule.lead else np.zeros_like(free)
    bounds = np.hstack([start, start + ends])
    # a mark begins at every even bound and ends at every odd one
    steps = np.zeros((count, rule.cells + 1), np.int8)
    np.put_along_axis(steps, bounds, np.resize([1, -1], (1, bounds.shape[1])), axis=1)
    return steps[:, :-1].cumsum(axis=1, dtype=np.int8).astype(bool)


def _grey(marked: NDArray[np.bool_], sigma: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Marks and noise as one normal value per cell, clipped, in thousandths: [count, cells]."""
    spread = np.where(marked, np.hypot(MARK_SD, sigma), sigma).astype(np.float32)
    level = spread * rng.standard_normal(marked.shape, dtype=np.float32)
    level += np.where(marked, np.float32(MARK_MEAN), np.float32(0))
    return np.round(level.clip(0, SCALE) / np.float32(SCALE), 3).astype(np.float32, copy=False)


def _flip(marked: NDArray[np.bool_], most: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Invert a uniform number of distinct cells of each frame: [count, cells]."""
    rank = rng.random(marked.shape).argsort(axis=1)
    flips = rng.integers(0, most, size=(len(marked), 1), endpoint=True)
    return (marked ^ (rank < flips)).astype(np.float32)

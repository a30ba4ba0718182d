"""Activation functions and their derivatives, as the machine looks them up.

| name       | meaning                                                | shape or value         |
|------------|--------------------------------------------------------|------------------------|
| s          | sum of a right neuron, a word                          | [neurons]              |
| a, slope   | activation and its derivative at s, words              | [neurons]              |
| M          | the table covers sums in [-M, M)                       | min(2^I, 8)            |
| entries    | table entries, ordered from -M upward; index = floor   | min(2^width, 4096)     |

The derivative table holds F - 2 fraction bits, which covers every slope up to its clip at
1/4 - 2^-F; both tables are in LSB (2^-F).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnc_hw.fixed_point import FixedPoint, Ints

ActivationName = Literal["sigmoid", "relu"]
MAX_TABLE_ENTRIES = 4096
MAX_DOMAIN = 8
# the 8 and 16 bit tables of the published design never hold 0, its others do
WIDTHS_WITHOUT_ZERO_BITS = (8, 16)


@dataclass(frozen=True, eq=False)
class SigmoidTable:
    """Sigmoid and derivative, one entry per step of the sum; outside: the ends, and slope 1 LSB."""

    number: FixedPoint
    domain: int
    values: Ints
    slopes: Ints

    @property
    def half_span(self) -> int:
        """M in LSB."""
        return self.domain * self.number.one

    @cached_property
    def _with_ends(self) -> tuple[Ints, Ints]:
        """Both tables between what lies below and above them: [entries + 2]."""
        ends = [1], [self.number.one - 1]
        values = np.concatenate([ends[0], self.values, ends[1]])
        return values, np.concatenate([[1], self.slopes, [1]])

    def look_up(self, s: Ints) -> tuple[Ints, Ints]:
        """Return activation and derivative at each sum."""
        values, slopes = self._with_ends
        entries = len(self.values)
        index = (s + self.half_span) * entries // (2 * self.half_span)
        place = np.minimum(np.maximum(index, -1), entries) + 1
        return values[place], slopes[place]


@dataclass(frozen=True)
class ClippedRelu:
    """The sum between 0 and 1, never quite either: at most 1 - LSB, at least 1 LSB."""

    number: FixedPoint

    def look_up(self, s: Ints) -> tuple[Ints, Ints]:
        """Return activation and derivative at each sum."""
        top = self.number.one - 1
        inside = (s > 0) & (s <= top)
        return np.minimum(np.maximum(s, 1), top), np.where(inside, top, 1)


Activation = SigmoidTable | ClippedRelu


@lru_cache(maxsize=16)
def sigmoid_table(
    number: FixedPoint, minimum: int | None = None, max_entries: int = MAX_TABLE_ENTRIES
) -> SigmoidTable:
    """Build the sigmoid table of a format, no entry below `minimum` LSB (default: as shipped).

    Raises ValueError for a minimum other than 0 and 1 and for a size that is no power of two.
    """
    if max_entries < 2 or max_entries.bit_count() != 1:
        below = 1 << max(max_entries.bit_length() - 1, 1)
        raise ValueError(
            f"a sigmoid table has a power of two of entries, got {max_entries}; "
            f"choose {below} or {2 * below}"
        )
    if minimum is None:
        minimum = 1 if number.width_bits in WIDTHS_WITHOUT_ZERO_BITS else 0
    if minimum not in (0, 1):
        raise ValueError(f"a sigmoid table starts at 0 or 1 LSB, got {minimum}")
    domain = min(1 << number.integer_bits, MAX_DOMAIN)
    entries = min(1 << number.width_bits, max_entries)
    sums = domain * (2 * np.arange(entries) / entries - 1)
    sigmoid = 1 / (1 + np.exp(-sums))
    values = _words(sigmoid, number, minimum, number.one - 1)
    slopes = _words(sigmoid * (1 - sigmoid), number, minimum, number.one // 4 - 1)
    return SigmoidTable(number, domain, values, slopes)


def activation(
    name: ActivationName,
    number: FixedPoint,
    table_minimum: int | None = None,
    max_table_entries: int = MAX_TABLE_ENTRIES,
) -> Activation:
    """Return the activation of this name; ValueError for any other."""
    if name == "relu":
        return ClippedRelu(number)
    if name == "sigmoid":
        return sigmoid_table(number, table_minimum, max_table_entries)
    raise ValueError(f"unknown activation {name!r}; choose 'sigmoid' or 'relu' (clipped at 1)")


def _words(real: NDArray[np.float64], number: FixedPoint, minimum: int, maximum: int) -> Ints:
    nearest = np.floor(real * number.one + 0.5).astype(np.int64)
    words: Ints = np.clip(nearest, minimum, maximum)
    words.setflags(write=False)
    return words

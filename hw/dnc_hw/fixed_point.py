"""Two's-complement numbers as the machine computes with them, to the bit.

| name  | meaning                                                    | value              |
|-------|------------------------------------------------------------|--------------------|
| I, F  | integer and fraction bits; 1 sign bit comes on top         |                    |
| width | bits of a word                                             | 1 + I + F          |
| LSB   | the smallest step, 2^-F; every array here counts in it     |                    |
| code  | learning-rate code: eta = 2^-(code - 1), 0 for "no update" | 0..F + 1           |
| wide  | a word of an adder tree, wide enough to be exact           | width + log2 terms |

The rules are those of the published design (github souryadey/mlp-ondevice-training).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnc_sparse.patterns.pattern import whole

Ints = NDArray[np.int64]

MAX_WIDTH_BITS = 32
# the derivative is stored without the two leading fraction bits, which are always zero
MIN_FRACTION_BITS = 3
PIXEL_BITS = 8
# (I, F) of every format the published designs were built in
PUBLISHED_FORMATS = ((2, 5), (1, 8), (2, 7), (3, 6), (2, 9), (3, 8), (4, 11), (5, 10), (10, 21))


@dataclass(frozen=True)
class FixedPoint:
    """A number format with its arithmetic: 1 sign, `integer_bits` and `fraction_bits` bits.

    With `rounds_after_clip`, as in the published multiplier, a product clipped at the smallest
    number still gains its rounding bit and becomes the second smallest.

    Raises ValueError for fewer than 1 integer or 3 fraction bits, and for more than 32 bits in all.
    """

    integer_bits: int
    fraction_bits: int
    rounds_after_clip: bool = True

    def __post_init__(self) -> None:
        for name in ("integer_bits", "fraction_bits"):
            whole(name, getattr(self, name))
        legal = self.integer_bits >= 1 and self.fraction_bits >= MIN_FRACTION_BITS
        if not legal or self.width_bits > MAX_WIDTH_BITS:
            raise ValueError(
                f"a format needs at least 1 integer and {MIN_FRACTION_BITS} fraction bits and at "
                f"most {MAX_WIDTH_BITS} bits with its sign, got {self}; "
                f"the nearest published format is {self._nearest_published()}"
            )

    def __str__(self) -> str:
        return f"(1, {self.integer_bits}, {self.fraction_bits})"

    @property
    def width_bits(self) -> int:
        """Bits of a word, sign included."""
        return 1 + self.integer_bits + self.fraction_bits

    @cached_property
    def largest(self) -> int:
        """The largest number, in LSB."""
        return (1 << (self.width_bits - 1)) - 1

    @cached_property
    def smallest(self) -> int:
        """The smallest number, in LSB."""
        return -(1 << (self.width_bits - 1))

    @cached_property
    def one(self) -> int:
        """The number 1, in LSB."""
        return 1 << self.fraction_bits

    def clip(self, wide: Ints) -> Ints:
        """Saturate sums of any width to a word."""
        clipped: Ints = np.minimum(np.maximum(wide, self.smallest), self.largest)
        return clipped

    def add(self, a: Ints, b: Ints) -> Ints:
        """Add words and saturate."""
        return self.clip(a + b)

    def multiply(self, a: Ints, b: Ints) -> Ints:
        """Multiply words, clip, then round half up unless the product is already the largest."""
        if not self.rounds_after_clip:
            return self.clip(self.exact_product(a, b))
        product = a * b
        half_bit = (product >> (self.fraction_bits - 1)) & 1
        rounded: Ints = np.minimum(
            self.clip(product >> self.fraction_bits) + half_bit, self.largest
        )
        return rounded

    def exact_product(self, a: Ints, b: Ints) -> Ints:
        """Multiply words and round half up, whatever the width."""
        rounded: Ints = (a * b + (1 << (self.fraction_bits - 1))) >> self.fraction_bits
        return rounded

    def step(self, delta: Ints, code: int) -> Ints:
        """Return -eta * delta: a shift to the right that adds the first bit shifted out.

        Raises ValueError for a code that the shifter does not have.
        """
        self.check_code(code)
        if code == 0:
            return np.zeros_like(delta)
        # the smallest number has no negative; it becomes the largest
        negated = np.minimum(-delta, self.largest)
        if code == 1:
            return negated
        shifted: Ints = (negated >> (code - 1)) + ((negated >> (code - 2)) & 1)
        return shifted

    def check_code(self, code: int) -> None:
        """Raise ValueError unless `code` is 0 or stands for a rate of at least one LSB."""
        last = self.fraction_bits + 1
        if not 0 <= code <= last:
            raise ValueError(
                f"learning-rate code {code} is none of format {self}; choose 0 (no update) or "
                f"1 to {last} (eta = 2^-(code - 1)), nearest {min(max(code, 0), last)}"
            )

    def from_pixel(self, pixel: NDArray[np.uint8]) -> Ints:
        """Read 8-bit pixels as fractions: zeros are appended, or low bits dropped."""
        spare = self.fraction_bits - PIXEL_BITS
        wide = pixel.astype(np.int64)
        return wide << spare if spare >= 0 else wide >> -spare

    def from_real(self, real: ArrayLike, *, clip: bool = False) -> Ints:
        """Round real numbers half up to words, clipped to the range where allowed.

        Raises ValueError for a number outside the range (and not `clip`), and for NaN.
        """
        values = np.asarray(real, dtype=np.float64) * self.one
        if np.isnan(values).any():
            raise ValueError(f"NaN is no number of format {self}; remove it first")
        values = np.floor(values + 0.5)
        low, high = values.min(initial=0), values.max(initial=0)
        if not clip and (low < self.smallest or high > self.largest):
            raise ValueError(
                f"values {low / self.one:g} to {high / self.one:g} leave the range of format "
                f"{self}, {self.to_real(self.smallest):g} to {self.to_real(self.largest):g}; "
                f"scale or clip them, or take more integer bits"
            )
        return np.clip(values, self.smallest, self.largest).astype(np.int64)

    def to_real(self, words: ArrayLike) -> NDArray[np.float64]:
        """Return the real numbers that words stand for."""
        return np.asarray(words, dtype=np.float64) / self.one

    def _nearest_published(self) -> str:
        def distance(published: tuple[int, int]) -> int:
            return abs(published[0] - self.integer_bits) + abs(published[1] - self.fraction_bits)

        return "(1, {}, {})".format(*min(PUBLISHED_FORMATS, key=distance))

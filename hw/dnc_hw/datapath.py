"""The arithmetic of one step: what the units of a junction do with the words fetched for it.

| name      | meaning                                            | shape             |
|-----------|----------------------------------------------------|-------------------|
| w, b      | weight of each edge, bias of each right neuron     | [edges], [right]  |
| a, slope  | activation of its left neuron, and its derivative  | [edges]           |
| delta     | delta of its right neuron                          | [edges] / [right] |
| partial   | delta of its left neuron, summed so far            | [edges]           |
| code      | learning-rate code                                 |                   |
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from dnc_hw.fixed_point import FixedPoint, Ints
from dnc_hw.saturation import Saturation


class Datapath:
    """The multipliers and adders of a junction; they count what they clip."""

    def __init__(self, number: FixedPoint) -> None:
        self._number = number
        self._clipped: Counter[str] = Counter()

    @property
    def saturation(self) -> Saturation:
        """How often each unit clipped a result so far."""
        return Saturation(**self._clipped)

    def products(self, w: Ints, a: Ints) -> Ints:
        """Return what feed-forward adds to each right neuron's sum, rounded per edge."""
        return self._number.multiply(w, a)

    def sums(self, exact: Ints, b: Ints) -> Ints:
        """Return the right neurons' sums with their biases; they are clipped only here."""
        return self._add("sums", exact, b)

    def back_propagated(self, w: Ints, slope: Ints, delta: Ints, partial: Ints) -> Ints:
        """Return the left neurons' partial deltas; both products are rounded per edge."""
        error = self._multiply(w, self._multiply(slope, delta))
        return self._add("partial_deltas", partial, error)

    def updated_weights(self, w: Ints, a: Ints, delta: Ints, code: int) -> Ints:
        """Return w - eta delta a; eta delta is rounded, and its product with a again."""
        change = self._number.multiply(self._number.step(delta, code), a)
        return self._add("parameters", w, change)

    def updated_biases(self, b: Ints, delta: Ints, code: int) -> Ints:
        """Return b - eta delta."""
        return self._add("parameters", b, self._number.step(delta, code))

    def _multiply(self, a: Ints, b: Ints) -> Ints:
        product = self._number.multiply(a, b)
        return self._counted("products", product, self._number.exact_product(a, b))

    def _add(self, counter: str, a: Ints, b: Ints) -> Ints:
        return self._counted(counter, self._number.add(a, b), a + b)

    def _counted(self, counter: str, words: Ints, exact: Ints) -> Ints:
        self._clipped[counter] += int(np.count_nonzero(words != exact))
        return words

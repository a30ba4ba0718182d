"""The arithmetic of one step: what the units of a junction do with the words fetched for it.

| name      | meaning                                            | shape             |
|-----------|----------------------------------------------------|-------------------|
| w         | weight of each edge of the step                    | [edges]           |
| a, slope  | activation of its left neuron, and its derivative  | [edges]           |
| delta     | delta of its right neuron                          | [edges]           |
| partial   | delta of its left neuron, summed so far            | [edges]           |
| code      | learning-rate code                                 |                   |
"""

from __future__ import annotations

from dnc_hw.fixed_point import FixedPoint, Ints


def products(number: FixedPoint, w: Ints, a: Ints) -> Ints:
    """Return what feed-forward adds to each right neuron's sum, rounded per edge."""
    return number.multiply(w, a)


def back_propagated(number: FixedPoint, w: Ints, slope: Ints, delta: Ints, partial: Ints) -> Ints:
    """Return the left neurons' partial deltas; both products are rounded per edge."""
    return number.add(partial, number.multiply(w, number.multiply(slope, delta)))


def updated_weights(number: FixedPoint, w: Ints, a: Ints, delta: Ints, code: int) -> Ints:
    """Return w - eta delta a; eta delta is rounded, and its product with a again."""
    return number.add(w, number.multiply(number.step(delta, code), a))


def updated_biases(number: FixedPoint, b: Ints, delta: Ints, code: int) -> Ints:
    """Return b - eta delta."""
    return number.add(b, number.step(delta, code))

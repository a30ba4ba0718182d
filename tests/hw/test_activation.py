"""Activation tables: published sizes and ends, values against the functions, errors."""

from __future__ import annotations

import numpy as np
import pytest

from dnc_hw.activation import activation, sigmoid_table
from dnc_hw.fixed_point import FixedPoint

PUBLISHED = [(2, 5), (3, 6), (2, 7), (3, 8), (4, 11)]


@pytest.mark.parametrize(("integer_bits", "fraction_bits"), PUBLISHED)
def test_sigmoid_tables_are_nearest_words(integer_bits: int, fraction_bits: int) -> None:
    number = FixedPoint(integer_bits, fraction_bits)
    table = sigmoid_table(number)
    assert table.domain == min(2**integer_bits, 8)
    assert len(table.values) == min(2**number.width_bits, 4096)
    s = np.arange(number.smallest, number.largest + 1)
    a, slope = table.look_up(s)
    step = 2 * table.half_span // len(table.values)
    inside = (s >= -table.half_span) & (s < table.half_span)
    exact = 1 / (1 + np.exp(-(s // step * step) / number.one))
    tops = number.one - 1, number.one // 4 - 1
    for found, real, top in zip((a, slope), (exact, exact * (1 - exact)), tops, strict=True):
        words = np.minimum(real * number.one, top)
        assert (np.abs(found - words)[inside] <= 0.5).all()
    assert (a[s < -table.half_span] == 1).all()
    assert (a[s >= table.half_span] == number.one - 1).all()
    assert (slope[~inside] == 1).all()


def test_zeros_in_the_published_tables() -> None:
    least = {bits: sigmoid_table(FixedPoint(*bits)).values.min() for bits in [*PUBLISHED, (5, 10)]}
    assert least == {(2, 5): 1, (3, 6): 0, (2, 7): 2, (3, 8): 0, (4, 11): 1, (5, 10): 1}
    assert sigmoid_table(FixedPoint(3, 8), minimum=1).slopes.min() == 1
    assert sigmoid_table(FixedPoint(5, 10), minimum=0).values.min() == 0
    # the derivative at 0 is clipped to the F - 2 bits that are stored
    assert sigmoid_table(FixedPoint(3, 8)).slopes.max() == 63


def test_the_clipped_relu_never_reaches_its_ends() -> None:
    relu = activation("relu", FixedPoint(2, 7))
    a, slope = relu.look_up(np.array([-512, 0, 1, 64, 127, 128, 511]))
    assert a.tolist() == [1, 1, 1, 64, 127, 127, 127]
    assert slope.tolist() == [1, 1, 127, 127, 127, 1, 1]


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"^unknown activation 'tanh'; choose 'sigmoid' or 'relu'"):
        activation("tanh", FixedPoint(2, 7))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^a sigmoid table starts at 0 or 1 LSB, got 2$"):
        sigmoid_table(FixedPoint(2, 7), minimum=2)
    with pytest.raises(
        ValueError,
        match=r"^a sigmoid table has a power of two of entries, got 1000; choose 512 or 1024$",
    ):
        sigmoid_table(FixedPoint(2, 7), max_entries=1000)

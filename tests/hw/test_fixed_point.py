"""Number formats: every operation against plain integers, the corners, the errors."""

from __future__ import annotations

import re
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc_hw.fixed_point import FixedPoint, Ints
from dnc_hw.learning_rate import LearningRate

FORMATS = st.builds(FixedPoint, st.integers(1, 10), st.integers(3, 21), st.booleans())


def words(number: FixedPoint) -> st.SearchStrategy[int]:
    """Any word, the ends often."""
    ends = st.sampled_from([number.smallest, number.smallest + 1, -1, 0, 1, number.largest])
    return ends | st.integers(number.smallest, number.largest)


def one(value: int) -> Ints:
    return np.array([value], dtype=np.int64)


@given(st.data(), FORMATS)
def test_products_and_sums_saturate(data: st.DataObject, number: FixedPoint) -> None:
    a, b = data.draw(words(number)), data.draw(words(number))
    exact = Fraction(a * b, number.one)
    rounded = min(max(floor(exact + Fraction(1, 2)), number.smallest), number.largest)
    if number.rounds_after_clip and floor(exact) < number.smallest:
        half_bit = exact - floor(exact) >= Fraction(1, 2)
        rounded = number.smallest + half_bit
    assert number.multiply(one(a), one(b)).item() == rounded
    assert number.add(one(a), one(b)).item() == min(max(a + b, number.smallest), number.largest)


@given(st.data(), FORMATS)
def test_a_step_is_a_rounded_shift(data: st.DataObject, number: FixedPoint) -> None:
    delta = data.draw(words(number))
    code = data.draw(st.integers(1, number.fraction_bits + 1))
    negated = min(-delta, number.largest)
    expected = floor(Fraction(negated, 2 ** (code - 1)) + Fraction(1, 2))
    assert number.step(one(delta), code).item() == expected
    assert number.step(one(delta), 0).item() == 0


def test_the_published_multiplier_can_miss_the_smallest_number() -> None:
    published, plain = FixedPoint(2, 7), FixedPoint(2, 7, rounds_after_clip=False)
    # -512 * 455 / 128 = -1820 exactly; -511 * 455 / 128 has its half bit set
    a, b = one(-511), one(455)
    assert (-511 * 455 >> 6) & 1
    assert published.multiply(a, b).item() == published.smallest + 1
    assert plain.multiply(a, b).item() == plain.smallest


def test_pixels_are_fractions() -> None:
    pixels = np.array([0, 1, 254, 255], dtype=np.uint8)
    assert FixedPoint(3, 8).from_pixel(pixels).tolist() == [0, 1, 254, 255]
    assert FixedPoint(4, 11).from_pixel(pixels).tolist() == [0, 8, 2032, 2040]
    assert FixedPoint(2, 7).from_pixel(pixels).tolist() == [0, 0, 127, 127]


@given(st.data(), FORMATS)
def test_real_numbers_come_back(data: st.DataObject, number: FixedPoint) -> None:
    value = data.draw(words(number))
    assert number.from_real(number.to_real([value])).item() == value


def test_real_numbers_outside_the_range() -> None:
    number = FixedPoint(2, 7)
    assert number.from_real([-9.0, 9.0], clip=True).tolist() == [-512, 511]
    # half an LSB below the end still rounds to it
    assert number.from_real([511.49 / 128]).item() == 511
    with pytest.raises(
        ValueError,
        match=r"^values 0 to 4 leave the range of format \(1, 2, 7\), -4 to 3\.99219; "
        r"scale or clip them, or take more integer bits$",
    ):
        number.from_real([4.0])
    with pytest.raises(
        ValueError, match=r"^NaN is no number of format \(1, 2, 7\); remove it first$"
    ):
        number.from_real([float("nan")])


@pytest.mark.parametrize(
    ("integer_bits", "fraction_bits", "nearest"),
    [(0, 7, "(1, 1, 8)"), (3, 2, "(1, 2, 5)"), (-1, 8, "(1, 1, 8)"), (20, 20, "(1, 10, 21)")],
)
def test_illegal_formats_name_the_nearest(
    integer_bits: int, fraction_bits: int, nearest: str
) -> None:
    text = (
        f"a format needs at least 1 integer and 3 fraction bits and at most 32 bits with its sign, "
        f"got (1, {integer_bits}, {fraction_bits}); the nearest published format is {nearest}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        FixedPoint(integer_bits, fraction_bits)


@pytest.mark.parametrize(("code", "nearest"), [(-1, 0), (9, 8)])
def test_illegal_codes_name_the_nearest(code: int, nearest: int) -> None:
    text = (
        f"learning-rate code {code} is none of format (1, 2, 7); choose 0 (no update) or 1 to 8 "
        f"(eta = 2^-(code - 1)), nearest {nearest}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        LearningRate((code,)).check(FixedPoint(2, 7))


def test_learning_rates_change_at_inputs() -> None:
    rate = LearningRate((4, 5, 0), (0, 3, 5))
    assert rate.for_inputs(0, 7).tolist() == [4, 4, 4, 5, 5, 0, 0]
    assert rate.for_inputs(4, 2).tolist() == [5, 0]
    with pytest.raises(ValueError, match=r"^2 learning-rate codes for 1 inputs at which they"):
        LearningRate((4, 5), (0,))
    with pytest.raises(ValueError, match=r"^learning rates must change at inputs that rise from 0"):
        LearningRate((4, 5), (1, 2))

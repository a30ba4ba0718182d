"""What the units of a junction clip is counted, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from dnc_hw.datapath import Datapath
from dnc_hw.fixed_point import FixedPoint, Ints
from dnc_hw.saturation import Saturation

# 6 bits: words of -32..31, 8 of which are 1
NUMBER = FixedPoint(2, 3)
ONE = np.array([8])


def words(*values: int) -> Ints:
    return np.array(values)


def test_nothing_is_clipped_inside_the_range() -> None:
    path = Datapath(NUMBER)
    path.products(words(-32, 31), words(7, 7))
    path.sums(words(-32, 31), words(0, 0))
    path.back_propagated(words(31, -32), ONE, ONE, words(0, 0))
    path.updated_weights(words(-32, 31), words(7, 7), words(0, 0), 1)
    path.updated_biases(words(-32, 31), words(0, 0), 1)
    assert path.saturation == Saturation()


def test_every_unit_counts_its_own() -> None:
    path = Datapath(NUMBER)
    # one below, one above
    assert path.sums(words(-33, 30, 5), words(0, 2, 0)).tolist() == [-32, 31, 5]
    assert path.saturation == Saturation(sums=2)
    # the first product of both is clipped, then the second of one
    path.back_propagated(words(8, 16), words(8, 8), words(40, 40), words(0, -31))
    assert path.saturation == Saturation(2, 3, 0, 0)
    assert path.back_propagated(words(8), ONE, words(30), words(2)).tolist() == [31]
    assert path.saturation == Saturation(2, 3, 1, 0)
    assert path.updated_weights(words(-32, 3), words(7, 7), words(8, 8), 1).tolist() == [-32, -4]
    assert path.updated_biases(words(31, 0), words(-8, -8), 1).tolist() == [31, 8]
    assert path.saturation == Saturation(2, 3, 1, 2)


@pytest.mark.parametrize(
    ("product", "rounds_after_clip", "count"),
    [
        # 31.5 LSB rounds to 32, which is none
        ((63, 4), True, 1),
        ((63, 4), False, 1),
        # -32.5 LSB rounds to -32; the published multiplier clips before it rounds, and gets -31
        ((-65, 4), True, 1),
        ((-65, 4), False, 0),
    ],
)
def test_products_at_the_ends(
    product: tuple[int, int], rounds_after_clip: bool, count: int
) -> None:
    path = Datapath(FixedPoint(2, 3, rounds_after_clip=rounds_after_clip))
    path.back_propagated(words(product[0]), words(product[1]), ONE, words(0))
    assert path.saturation.products == count

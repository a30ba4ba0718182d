"""Sharing one density among junctions."""

from itertools import pairwise, product
from math import ceil, floor, gcd

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_sparse.patterns import allocate, clash_free, overall_density
from dnc_sparse.patterns.allocation import RULES

MNIST = (784, 112, 10)


@pytest.mark.parametrize("rule", RULES)
def test_density_one_is_dense(rule: str) -> None:
    assert allocate(MNIST, 1, rule) == [784, 112]


@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=6),
    st.floats(0, 1),
    st.sampled_from(RULES),
    st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_bounds_and_closeness(sizes: list[int], wish: float, rule: str, exact: bool) -> None:
    pairs = list(pairwise(sizes))
    units = [n_in // gcd(n_in, n_out) if exact else 1 for n_in, n_out in pairs]
    total = sum(a * b for a, b in pairs)
    least = sum(u * b for u, (_, b) in zip(units, pairs, strict=True)) / total
    density = least + wish * (1 - least)
    fan_ins = allocate(sizes, density, rule, exact=exact)
    for fan_in, unit, (n_in, n_out) in zip(fan_ins, units, pairs, strict=True):
        assert unit <= fan_in <= n_in
        assert fan_in % unit == 0
        if exact:
            clash_free(n_in, n_out, fan_in=fan_in)
    # rounding one junction either way moves the total by less than its unit
    slack = max(u * b for u, (_, b) in zip(units, pairs, strict=True)) / total
    assert abs(overall_density(sizes, fan_ins) - density) <= slack / 2 + 1e-9


@pytest.mark.parametrize("density", [0.15, 0.2, 0.37, 0.9])
def test_uniform_is_the_best_rounding(density: float) -> None:
    sizes = (100, 30, 21, 7)
    fan_ins = allocate(sizes, density)
    roundings = [(floor(density * n), ceil(density * n)) for n in sizes[:-1]]
    assert all(fan_in in pair for fan_in, pair in zip(fan_ins, roundings, strict=True))
    best = min(abs(overall_density(sizes, choice) - density) for choice in product(*roundings))
    assert abs(overall_density(sizes, fan_ins) - density) == pytest.approx(best, abs=1e-12)


def test_erdos_renyi_gives_small_junctions_more() -> None:
    # densities proportional to 896/87808 and 122/1120: ratio 10.67, and no clipping at 0.05
    fan_ins = allocate(MNIST, 0.05, "erdos_renyi")
    assert fan_ins == [35, 53]
    assert (fan_ins[1] / 112) / (fan_ins[0] / 784) == pytest.approx(10.67, rel=0.02)
    assert allocate(MNIST, 0.5, "erdos_renyi")[1] == 112


def test_later_denser_thins_from_the_front() -> None:
    assert allocate((800, 100, 10), 17 / 81, "later_denser") == [160, 100]
    assert allocate((2000, 50, 50), 0.122, "later_denser", exact=True) == [200, 50]
    assert allocate((2000, 50, 50), 0.063, "later_denser", exact=True) == [80, 50]
    # every neuron of the first junction has its one connection: the cut goes on to the second
    assert allocate((100, 50, 50), 0.1, "later_denser") == [2, 13]
    assert allocate((100, 50, 50), 0.02, "later_denser") == [2, 1]
    assert allocate((100, 50, 50), 100 / 7500, "later_denser") == [1, 1]


def test_blocks_are_kept_whole() -> None:
    fan_ins = allocate((64, 32, 16), 0.3, block=4)
    assert all(fan_in % 4 == 0 for fan_in in fan_ins)


def test_deep_networks_are_served() -> None:
    sizes = [50 + 7 * i for i in range(30)]
    fan_ins = allocate(sizes, 0.1)
    assert overall_density(sizes, fan_ins) == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (MNIST, 0.5, "even"),
            "^unknown allocation rule 'even'; choose one of uniform, erdos_renyi, later_denser$",
        ),
        (((784,), 0.5), r"^a network needs at least 2 layers, got sizes \[784\]$"),
        (
            (MNIST, 1.5),
            r"^density 1.5 of a 784-112-10 network must lie in 0.001372..1 \(below that a "
            r"junction would be empty\)$",
        ),
        ((MNIST, 0.001), "^density 0.001 of a 784-112-10 network must lie in 0.001372..1 "),
        ((MNIST, 0.5, "uniform", 16), "^block 16x16 does not divide 10 outputs x 112 inputs; "),
    ],
)
def test_refusals(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allocate(*arguments)


def test_sizes_are_whole() -> None:
    fan_ins = allocate(np.array(MNIST), 0.2, exact=True)
    assert fan_ins == allocate(MNIST, 0.2, exact=True)
    assert {type(fan_in) for fan_in in fan_ins} == {int}
    with pytest.raises(TypeError, match=r"^layer size must be a whole number, got 1\.5$"):
        allocate((784, 1.5), 0.5)

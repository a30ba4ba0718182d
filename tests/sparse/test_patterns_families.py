"""Regular, random and mask patterns, rounding of densities, feasible densities."""

import json
import warnings
from collections.abc import Callable
from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_sparse.patterns import (
    Pattern,
    clash_free,
    cyclic,
    feasible_densities,
    from_mask,
    nearest,
    neighbours,
    random,
    regular,
)

SHAPES = settings(max_examples=500, deadline=None)
SIZE = st.integers(1, 40)
BLOCK = st.sampled_from([(1, 1), (2, 3)])
SEED = st.integers(0, 2**32)


@given(SIZE, SIZE, st.integers(0, 10**6), BLOCK, SEED)
@SHAPES
def test_regular_is_balanced(
    columns: int, rows: int, pick: int, block: tuple[int, int], seed: int
) -> None:
    slots = 1 + pick % columns
    pattern = regular(
        columns * block[1], rows * block[0], fan_in=slots * block[1], block=block, seed=seed
    )
    assert set(pattern.fan_ins.tolist()) == {slots * block[1]}
    assert pattern.fan_outs.max() - pattern.fan_outs.min() <= block[0]
    assert pattern.is_regular == (rows * slots % columns == 0)
    assert Pattern.from_spec(pattern.spec) == pattern


def test_regular_takes_any_of_three_wishes() -> None:
    assert regular(30, 20, fan_in=6).key == regular(30, 20, fan_out=4).key
    assert regular(30, 20, fan_in=6).key == regular(30, 20, density=0.2).key
    message = (
        "^30 inputs with fan_out 3 make 90 edges, which 20 outputs cannot share equally; "
        "nearest fan_out that fits: 2 or 4$"
    )
    with pytest.raises(ValueError, match=message):
        regular(30, 20, fan_out=3)
    message = (
        "^density 0.25 of a 30 -> 20 junction gives uneven degrees; "
        "nearest density that fits: 0.233333 or 0.266667$"
    )
    with pytest.raises(ValueError, match=message):
        regular(30, 20, density=0.25)


@given(SIZE, SIZE, st.floats(0, 1), BLOCK, SEED)
@SHAPES
def test_random_has_the_promised_edges(
    columns: int, rows: int, density: float, block: tuple[int, int], seed: int
) -> None:
    pattern = random(columns * block[1], rows * block[0], density=density, block=block, seed=seed)
    total = rows * columns
    assert pattern.counts.sum() == ceil(density * total - 1e-9 * total)
    assert Pattern.from_spec(pattern.spec) == pattern


def test_random_does_not_gain_an_edge_by_rounding() -> None:
    assert random(7, 10, density=0.7).n_edges == 49
    assert random(3, 1, density=0.1 * 3 / 0.9).n_edges == 1


@pytest.mark.parametrize("density", [-0.1, 1.5, float("nan")])
def test_random_density_in_range(density: float) -> None:
    with pytest.raises(ValueError, match=r"^density must lie in 0\.\.1, got "):
        random(4, 4, density=density)


def test_draws_never_change() -> None:
    # saved models hold seeds, not edges
    digests = [
        regular(30, 20, fan_in=7, seed=3).digest,
        random(30, 20, density=0.3, seed=4).digest,
    ]
    assert digests == ["0836cbff4cbc99b4", "6b1975315d9121cd"]


def test_from_mask_takes_what_holds_a_matrix() -> None:
    rows = [[0, 2, 0], [0, 0, -1]]
    expected = np.array(rows) != 0
    for mask in (rows, np.array(rows), torch.tensor(rows), torch.tensor(rows, dtype=torch.float32)):
        assert np.array_equal(from_mask(mask).mask(), expected)
    weight = torch.nn.Parameter(torch.tensor(rows, dtype=torch.float32))
    assert from_mask(weight) == from_mask(rows)


def test_from_mask_keeps_blocks() -> None:
    mask = np.kron(np.array([[0, 1], [1, 1]]), np.ones((2, 3), dtype=int))
    pattern = from_mask(mask, block=(2, 3))
    assert pattern.sources.tolist() == [[1, -1], [0, 1]]
    assert np.array_equal(pattern.mask(), mask == 1)
    mask[0, 3] = 0
    message = (
        r"^block \(0, 1\) of the mask has 5 of its 2x3 entries set; "
        "set all or none, or choose a smaller block$"
    )
    with pytest.raises(ValueError, match=message):
        from_mask(mask, block=(2, 3))
    with pytest.raises(ValueError, match=r"^a mask must be \[n_out, n_in\], got shape \[3\]$"):
        from_mask([1, 0, 1])


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (clash_free, {"fan_in": 4, "banks": 2, "kind": 2, "block": 2}),
        (clash_free, {"fan_out": 2}),
        (cyclic, {"fan_in": 4, "banks": 2}),
        (regular, {"fan_in": 6, "block": 2}),
        (random, {"density": 0.25}),
        (nearest, {"density": 0.25, "block": 2}),
        (nearest, {"fan_in": 6}),
    ],
)
def test_any_integer_type_is_taken(
    build: Callable[..., Pattern], options: dict[str, object]
) -> None:
    plain = {"n_in": 16, "n_out": 8, "seed": 3, **options}
    converted = {name: np.asarray(value)[()] for name, value in plain.items()}
    pattern = build(**converted)
    assert pattern.key == build(**plain).key
    assert Pattern.from_spec(json.loads(json.dumps(pattern.spec))) == pattern


@pytest.mark.parametrize("build", [clash_free, cyclic, regular])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_in": 16.5}, "^n_in must be a whole number, got 16.5$"),
        ({"n_out": None}, "^n_out must be a whole number, got None$"),
        ({"fan_in": 1.5}, "^fan_in must be a whole number, got 1.5$"),
        ({"block": 1.5}, "^block must be a whole number, got 1.5$"),
        ({"seed": 1.5}, "^seed must be a whole number, got 1.5$"),
        ({"seed": None}, "^seed must be a whole number, got None$"),
    ],
)
def test_fractions_are_refused(
    build: Callable[..., Pattern], changed: dict[str, object], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        build(**{"n_in": 16, "n_out": 8, "fan_in": 4, **changed})


def test_fractions_of_a_layer_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^n_in must be a whole number, got 16\.5$"):
        nearest(16.5, 8, density=0.5)
    with pytest.raises(TypeError, match=r"^banks must be a whole number, got 1\.5$"):
        nearest(16, 8, density=0.5, banks=1.5)


def test_feasible_densities() -> None:
    assert feasible_densities(100, 30) == [k / 10 for k in range(1, 11)]
    assert feasible_densities(2000, 50)[:2] == [0.02, 0.04]
    assert feasible_densities(8, 8, block=4) == [0.5, 1.0]
    assert feasible_densities(7, 5) == [1.0]


def test_neighbours() -> None:
    assert neighbours(100, 30, 0.25) == (0.2, 0.3)
    assert neighbours(100, 30, 0.3) == (0.3, 0.3)
    assert neighbours(100, 30, 0.05) == (None, 0.1)
    assert neighbours(100, 30, 1) == (1, 1)
    assert neighbours(100, 30, 2) == (1, None)


@given(SIZE, SIZE, st.floats(0.001, 1), SEED)
@SHAPES
def test_nearest_is_nearest(n_in: int, n_out: int, density: float, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        auto = nearest(n_in, n_out, density=density, seed=seed)
        strict = nearest(n_in, n_out, density=density, family="clash_free", seed=seed)
    distance = abs(auto.density - density)
    assert distance <= min(abs(k / n_in - density) for k in range(1, n_in + 1)) + 1e-9
    assert auto.spec["family"] == ("clash_free" if auto.is_regular else "regular")
    options = feasible_densities(n_in, n_out)
    assert abs(strict.density - density) <= min(abs(d - density) for d in options) + 1e-9


def test_nearest_chooses_the_family() -> None:
    assert nearest(784, 112, density=0.125).spec["family"] == "clash_free"
    assert nearest(784, 100, density=0.125).spec["family"] == "regular"
    assert nearest(784, 100, density=0.125).fan_in == 98
    assert nearest(800, 100, fan_out=20).spec["fan_in"] == 160
    assert nearest(800, 100, fan_in=7).spec["family"] == "regular"
    assert nearest(64, 64, density=0.25, family="cyclic").spec["family"] == "cyclic"
    assert nearest(64, 64, density=0.3, family="random").n_edges == ceil(0.3 * 64 * 64)
    assert nearest(64, 64, fan_in=16, family="random").density == 0.25
    assert nearest(64, 64, density=0.25, kind=2, banks=4).spec["kind"] == 2
    assert nearest(64, 32, density=1, block=4).density == 1


def test_nearest_warns_of_a_notable_change() -> None:
    message = "^density 0.5 of a 100 -> 33 junction becomes 1; feasible neighbours: 1$"
    with pytest.warns(UserWarning, match=message):
        pattern = nearest(100, 33, density=0.5, family="clash_free")
    assert pattern.density == 1
    message = "^density 0.25 of a 9 -> 6 junction becomes 0.3333; feasible neighbours: 0.3333$"
    with pytest.warns(UserWarning, match=message) as caught:
        nearest(9, 6, density=0.25, family="clash_free")
    assert caught[0].filename == __file__
    message = "^density 0.001 of a 8 -> 4 junction becomes 0.125; feasible neighbours: 0.125$"
    with pytest.warns(UserWarning, match=message):
        nearest(8, 4, density=0.001)
    message = "becomes 0.5; feasible neighbours: 0.25 and 0.5$"
    with pytest.warns(UserWarning, match=message):
        nearest(16, 16, density=0.4, block=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"density": 0.5, "family": "other"},
            "^unknown pattern family 'other'; "
            "choose one of auto, clash_free, cyclic, regular, random$",
        ),
        ({"density": 0}, "^density must be above 0 and at most 1, got 0$"),
        ({"density": 1.5}, "^density must be above 0 and at most 1, got 1.5$"),
        ({"density": 0.5, "fan_in": 4}, "^give exactly one of fan_in, fan_out, density; got"),
        ({}, "^give exactly one of fan_in, fan_out, density; got none of them$"),
        (
            {"fan_in": 3, "family": "clash_free"},
            "^4 outputs with fan_in 3 make 12 edges, which 8 inputs cannot share equally; "
            "nearest fan_in that fits: 2 or 4$",
        ),
        (
            {"fan_in": 3, "banks": 2},
            "^a regular pattern takes no banks; leave them out, or choose the clash_free family "
            "and a density at which it exists$",
        ),
        ({"density": 0.5, "family": "random", "kind": 2}, "^a random pattern takes no kind; "),
    ],
)
def test_nearest_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest(8, 4, **options)

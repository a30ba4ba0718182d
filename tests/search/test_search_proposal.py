"""Proposals: repeatable, always new, and better than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from dnc_search.kernel import Component, same_limits
from dnc_search.parameters import Choice, Config, Integer, Value
from dnc_search.proposal import FAITHFUL, PATIENCE, Method, SpaceExhausted, initial, propose
from dnc_search.record import config_key
from dnc_search.space import Bayesian

METHODS = {
    "default": Method(),
    "faithful": FAITHFUL,
    "not fitted": Method(fitted="no"),
    "fitted as one": Method(fitted="shared"),
}
BASE: dict[str, Value] = {"learning_rate": 1e-3, "layers": 9, "width_2": 99}


def widths(config: Config) -> list[float]:
    return [float(config[f"width_{i}"]) for i in range(int(config["layers"]))]


def decode(point: Sequence[float]) -> dict[str, Value]:
    layers = Integer("layers", 0, 3).from_unit(point[0])
    chosen = {
        f"width_{i}": Integer(f"width_{i}", 20, 400).from_unit(point[1 + i]) for i in range(layers)
    }
    return {"layers": layers} | chosen


STAGE = Bayesian(
    name="architecture",
    parameters=(Integer("layers", 0, 3), *(Integer(f"width_{i}", 20, 400) for i in range(3))),
    components=(
        Component("widths", widths, same_limits(20, 400)),
        Component("depth", lambda config: [float(config["layers"])], same_limits(0, 3)),
    ),
    decode=decode,
)
TINY = Bayesian(
    name="tiny",
    parameters=(Choice("a", (0, 1, 2)), Choice("b", (0, 1))),
    components=(
        Component("a", lambda config: [float(config["a"])], same_limits(0, 2)),
        Component("b", lambda config: [float(config["b"])], same_limits(0, 1)),
    ),
)


def loss(config: Config) -> float:
    """A smooth landscape: two layers of 240 and 90 are best."""
    nodes = widths(config)
    depth = abs(len(nodes) - 2)
    far = sum(((x - best) / 380) ** 2 for x, best in zip(nodes, (240, 90, 20), strict=False))
    return math.log10(0.1 + 0.05 * depth + 0.3 * far)


def observe(count: int, seed: int = 0) -> list[tuple[Config, float]]:
    configs = [STAGE.place(BASE, initial(STAGE, index, seed)) for index in range(count)]
    return [(config, loss(config)) for config in configs]


def test_initial_design_follows_from_seed_and_index_alone() -> None:
    forwards = [initial(STAGE, index, seed=5) for index in range(20)]
    backwards = [initial(STAGE, index, seed=5) for index in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert forwards != [initial(STAGE, index, seed=6) for index in range(20)]


def test_initial_design_is_spread_and_has_nothing_twice() -> None:
    for seed in range(10):
        design = [initial(STAGE, index, seed) for index in range(16)]
        assert len(set(map(config_key, design))) == 16
        # the network without layers is one of 4 depths, but one candidate only
        assert [values["layers"] for values in design].count(0) == 1
        first = [values["width_0"] for values in design if values["layers"]]
        assert 4 <= sum(width <= 210 for width in first) <= 11


def test_values_are_plain() -> None:
    values = [initial(STAGE, 3, 0), propose(STAGE, BASE, observe(5), [], 0)]
    assert {type(value) for record in values for value in record.values()} == {int}


def test_initial_design_of_a_small_space() -> None:
    assert len({config_key(initial(TINY, index, 0)) for index in range(6)}) == 6
    message = (
        rf"^stage tiny has 6 different candidates among {PATIENCE} points, "
        r"too few for an initial design of 7; shorten it or widen the ranges$"
    )
    with pytest.raises(SpaceExhausted, match=message):
        initial(TINY, 6, 0)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_proposal_follows_from_its_arguments(method: Method) -> None:
    observed, pending = observe(12), [STAGE.place(BASE, initial(STAGE, 40, 0))]
    first = propose(STAGE, BASE, observed, pending, 7, method=method)
    assert first == propose(STAGE, BASE, observed, pending, 7, method=method)
    others = [propose(STAGE, BASE, observed, pending, seed, method=method) for seed in range(3)]
    assert any(other != first for other in others)
    assert set(first) == {"layers"} | {f"width_{i}" for i in range(int(first["layers"]))}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_small_space_is_searched_whole_and_then_exhausted(method: Method) -> None:
    observed: list[tuple[Config, float]] = []
    pending: list[Config] = [{"a": 0, "b": 0}]
    avoid = {config_key({"a": 1, "b": 1})}
    for seed in range(4):
        config = TINY.place({}, propose(TINY, {}, observed, pending, seed, avoid=avoid))
        assert config not in [*pending, {"a": 1, "b": 1}, *(seen for seen, _ in observed)]
        observed.append((config, float(config["a"]) - float(config["b"])))
    message = (
        rf"^stage tiny has nothing new to propose: {PATIENCE + 1000} points gave only "
        r"configurations that are among the 6 known already; lower its steps or widen its ranges$"
    )
    with pytest.raises(SpaceExhausted, match=message):
        propose(TINY, {}, observed, pending, 4, avoid=avoid)


def test_with_little_to_learn_from_it_is_quasi_random() -> None:
    chosen = [propose(STAGE, BASE, observe(count), [], 3) for count in (0, 1)]
    assert chosen == [initial(STAGE, 0, 3)] * 2
    # pending ones are avoided all the same
    pending = [STAGE.place(BASE, initial(STAGE, 0, 3))]
    assert propose(STAGE, BASE, [], pending, 3) == initial(STAGE, 1, 3)


def test_what_is_pending_keeps_others_away() -> None:
    observed = observe(15)

    def apart(a: Config, b: Config) -> float:
        if a["layers"] != b["layers"]:
            return 380
        return max(abs(x - y) for x, y in zip(widths(a), widths(b), strict=True))

    unaware, aware = [], []
    for seed in range(5):
        first = STAGE.place(BASE, propose(STAGE, BASE, observed, [], seed))
        unaware.append(apart(first, propose(STAGE, BASE, observed, [], seed + 100)))
        aware.append(apart(first, propose(STAGE, BASE, observed, [first], seed + 100)))
    assert np.mean(aware) > 2 * np.mean(unaware), (aware, unaware)


def test_a_failure_counts_as_the_worst_of_the_others() -> None:
    observed = observe(12)
    worst = max(value for _, value in observed)
    failed = [STAGE.place(BASE, initial(STAGE, index, 0)) for index in (20, 21)]
    chosen = [
        propose(STAGE, BASE, [*observed, *((config, value) for config in failed)], [], 0)
        for value in (math.inf, worst)
    ]
    assert chosen[0] == chosen[1]
    # nothing but failures teaches nothing
    only = [*observed[:1], *((config, math.inf) for config in failed)]
    assert propose(STAGE, BASE, only, [], 50) == initial(STAGE, 0, 50)


@pytest.mark.parametrize("loss", [math.nan, -math.inf])
def test_losses_that_are_no_numbers(loss: float) -> None:
    observed = [*observe(3), (STAGE.place(BASE, initial(STAGE, 20, 0)), loss)]
    message = rf"^the loss of configuration 3 is {loss}; give a candidate that failed a finite one$"
    with pytest.raises(ValueError, match=message):
        propose(STAGE, BASE, observed, [], 0)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_better_than_chance(method: Method) -> None:
    found, by_chance = [], []
    for seed in range(4):
        observed = observe(8, seed)
        for step in range(8):
            values = propose(STAGE, BASE, observed, [], 100 * seed + step, method=method)
            config = STAGE.place(BASE, values)
            observed.append((config, loss(config)))
        found.append(min(value for _, value in observed))
        by_chance.append(min(value for _, value in observe(40, seed)))
    # 8 + 8 evaluations against 40 quasi-random ones
    assert np.mean(found) < np.mean(by_chance)
    assert np.mean(found) < -0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 0}, r"^a proposal needs at least 1 candidate, got 0$"),
        ({"fitted": "all"}, r"^fitted must be no, shared or separate, got 'all'$"),
        ({"margin": -0.1}, r"^the margin must be 0 or more, got -0\.1$"),
        ({"noise": 0.0}, r"^the noise must be a variance above 0, got 0\.0$"),
    ],
)
def test_bad_methods(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        propose(STAGE, BASE, observe(3), [], 0, method=Method(**options))

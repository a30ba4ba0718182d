"""The ramp kernel: the paper's example, a plain double loop, and what a kernel must be."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc_search.kernel import (
    Component,
    doubling_limits,
    gram,
    layer_root,
    ramp,
    same_limits,
    shares,
)
from dnc_search.parameters import Config

PAPER = doubling_limits(16, 64, 512)
RELEASED = same_limits(16, 64)


def net(*widths: float) -> dict[str, float]:
    return {"layers": len(widths)} | {f"width_{i}": width for i, width in enumerate(widths)}


def widths(config: Config) -> list[float]:
    return [float(config[f"width_{i}"]) for i in range(int(config["layers"]))]


def channels(limits: Callable[[int], tuple[float, float]] = PAPER, clip: bool = True) -> Component:
    return Component("channels", widths, limits, layer_root, clip=clip)


DEPTH = Component("depth", lambda config: [float(config["layers"])], same_limits(0, 6))

nets = st.lists(st.integers(16, 512), max_size=6).map(lambda widths: net(*widths))


@pytest.mark.parametrize(
    ("limits", "clip", "by_layer", "whole"),
    [
        (PAPER, True, [0.682, 0.466, 0.011], 0.386),
        (RELEASED, False, [0.682, 0.168, 0.011], 0.287),
    ],
)
def test_worked_example_of_the_authors(
    limits: Callable[[int], tuple[float, float]], clip: bool, by_layer: list[float], whole: float
) -> None:
    component, a, b = channels(limits, clip), net(50, 80), net(36, 61, 107)
    squares = ramp(component, [a], [b]).squares[:, 0, 0]
    np.testing.assert_allclose(np.exp(-0.5 * component.omega**2 * squares), by_layer, atol=5e-4)
    np.testing.assert_allclose(gram([component], [a], [b]), [[whole]], atol=1e-3)


def plain_kernel(component: Component, a: Config, b: Config) -> float:
    """The definition, one layer after another."""
    xs, ys = component.values(a), component.values(b)
    if not xs and not ys:
        return 1.0
    total = 0.0
    for layer in range(max(len(xs), len(ys))):
        distance = component.omega
        if layer < min(len(xs), len(ys)):
            low, high = component.limits(layer)
            x, y = xs[layer], ys[layer]
            if component.clip:
                x, y = min(max(x, low), high), min(max(y, low), high)
            distance *= (abs(x - y) / (high - low)) ** component.exponent(layer)
        total += math.exp(-(distance**2) / 2)
    return total / max(len(xs), len(ys))


@given(st.lists(nets, max_size=5), st.lists(nets, max_size=5), st.floats(0.5, 6), st.booleans())
def test_gram_is_the_definition(
    some: list[Config], others: list[Config], omega: float, clip: bool
) -> None:
    # the released limits are the ones that clipping changes
    first = replace(channels(RELEASED, clip), omega=omega, weight=3.0)
    expected = [
        [0.75 * plain_kernel(first, a, b) + 0.25 * plain_kernel(DEPTH, a, b) for b in others]
        for a in some
    ]
    actual = gram([first, DEPTH], some, others)
    np.testing.assert_allclose(actual, np.reshape(expected, actual.shape), rtol=1e-12)


def test_gram_of_more_rows_than_are_done_at_once() -> None:
    rng = np.random.default_rng(0)
    some = [net(*rng.integers(16, 65, size=rng.integers(0, 4)).tolist()) for _ in range(70)]
    component = channels()
    expected = [[plain_kernel(component, a, b) for b in some] for a in some]
    np.testing.assert_allclose(gram([component], some, some), expected, rtol=1e-12)


@given(st.lists(nets, min_size=1, max_size=40), st.floats(1, 12))
def test_gram_is_a_kernel(some: list[Config], omega: float) -> None:
    components = [replace(channels(), omega=omega), DEPTH]
    matrix = gram(components, some, some)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1.0, rtol=1e-14)
    assert np.linalg.eigvalsh(matrix + 1e-4 * np.eye(len(some))).min() > 0


def test_layers_that_are_missing() -> None:
    component, farthest = channels(), math.exp(-4.5)
    assert gram([component], [net()], [net()]) == [[1.0]]
    np.testing.assert_allclose(gram([component], [net()], [net(16, 20)]), [[farthest]])
    np.testing.assert_allclose(gram([component], [net(16)], [net(16, 20)]), [[(1 + farthest) / 2]])


def test_a_quantity_with_one_value_never_differs() -> None:
    component = Component("fixed", widths, same_limits(16, 16), clip=False)
    assert gram([component], [net(16)], [net(16)]) == [[1.0]]


def test_limits_and_exponents_by_layer() -> None:
    assert [PAPER(layer) for layer in range(5)] == [
        (16, 64),
        (16, 128),
        (16, 256),
        (16, 512),
        (16, 512),
    ]
    assert [layer_root(layer) for layer in range(5)] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 4]


@pytest.mark.parametrize("omega", [1.0, 3.0])
def test_slope_is_the_derivative(omega: float) -> None:
    nets = [net(), net(20), net(30, 50), net(16, 60, 200)]
    distances, step = ramp(channels(), nets, nets), 1e-6
    higher, lower = (distances.kernel(omega * math.exp(s)) for s in (step, -step))
    np.testing.assert_allclose(distances.slope(omega), (higher - lower) / (2 * step), atol=1e-9)


def test_shares_add_up_to_one() -> None:
    components = [replace(DEPTH, weight=weight) for weight in (1.0, 0.0, 3.0)]
    np.testing.assert_array_equal(shares(components), [0.25, 0.0, 0.75])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": -1.0}, r"^the weight of depth must be 0 or more, got -1\.0$"),
        ({"weight": math.nan}, r"^the weight of depth must be 0 or more, got nan$"),
        ({"omega": 0.0}, r"^the omega of depth must be above 0, got 0\.0$"),
        (
            {"limits": same_limits(6, 0)},
            r"^layer 0 of depth has the limits 6\.\.0; give two finite numbers, the lower first$",
        ),
        (
            {"exponent": lambda layer: 2.0},
            r"^layer 0 of depth has the exponent 2\.0; choose one above 0 and up to 1, for others",
        ),
        (
            {"exponent": lambda layer: 0.0},
            r"^layer 0 of depth has the exponent 0\.0; choose one above 0 and up to 1, for others",
        ),
        (
            {"values": lambda config: [config["layers"] or math.inf]},
            r"^depth must be finite, got \[inf\] of \{'layers': 0\}$",
        ),
    ],
)
def test_bad_components(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gram([replace(DEPTH, **change)], [net()], [net()])


@pytest.mark.parametrize(
    ("components", "names"), [([], "none"), ([replace(DEPTH, weight=0.0)], "depth")]
)
def test_a_kernel_of_nothing(components: Sequence[Component], names: str) -> None:
    message = rf"^a kernel needs a component with a weight above 0; it has: {names}$"
    with pytest.raises(ValueError, match=message):
        gram(components, [net()], [net()])


def test_the_core_needs_neither_torch_nor_optuna() -> None:
    code = "import sys, dnc_search.proposal; print({'torch', 'optuna'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"

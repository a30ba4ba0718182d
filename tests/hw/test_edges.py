"""Orders of edges: the published interleaver, patterns of every family, errors."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hw.machines import junction_patterns
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_hw.edges import EdgeOrder, edges_listed, order_of, rtl_order
from dnc_sparse.nn import SparseLinear
from dnc_sparse.patterns import Pattern, clash_free, cyclic, from_mask, regular


def test_the_published_example_edge() -> None:
    # 32 left neurons, fan_out 2, z = 8: edge 45 reads word 1 of memory 5, weight 27 of 64
    starts = np.zeros((2, 8), dtype=np.int64)
    starts[1, 5] = 0
    order = rtl_order(32, 16, 2, 8, starts.tolist())
    assert order.left[45] == 13
    assert (order.memory(order.left[45:46]).item(), order.word(order.left[45:46]).item()) == (5, 1)
    assert order.left[45] * 2 + 45 // 32 == 27


def test_release_default_reads_word_k_mod_d() -> None:
    order = rtl_order(1024, 64, 4, 128)
    edge = np.arange(4096)
    assert np.array_equal(order.left, edge // 128 % 8 * 128 + edge % 128)
    assert np.array_equal(order.right, edge // 64)
    assert (order.rows, order.depth_words, order.pattern.fan_in) == (32, 8, 64)


@given(st.integers(0, 2**32))
def test_start_addresses_shift_every_memory(seed: int) -> None:
    starts = np.random.default_rng(seed).integers(0, 4, (3, 8))
    order = rtl_order(32, 12, 3, 8, starts.tolist())
    for e, left in enumerate(order.left):
        sweep, q, m = e // 32, e % 32 // 8, e % 8
        assert left == (starts[sweep, m] + q) % 4 * 8 + m


def test_slots_of_uneven_rows_hold_their_weights() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((80, 120)) < np.linspace(0.02, 0.9, 80)[:, None] ** 3
    mask[:, 0] = True
    pattern = from_mask(mask)
    assert pattern.compact
    order = order_of(pattern, 8)
    layer = SparseLinear(120, 80, pattern=pattern)
    weights = layer.weight.detach().reshape(-1)[torch.from_numpy(order.slot)]
    dense = layer.to_dense().weight.detach()
    assert torch.equal(weights, dense[torch.from_numpy(order.right), torch.from_numpy(order.left)])


@given(st.data())
@settings(deadline=None)
def test_orders_are_their_patterns(data: st.DataObject) -> None:
    sizes = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    pattern, lanes = data.draw(junction_patterns(*sizes, at_least=1))
    order = order_of(pattern, lanes)
    weight = np.arange(pattern.sources.size)[order.slot]
    assert np.array_equal(order.left, pattern.sources.reshape(-1)[weight])
    assert np.array_equal(order.right, weight // pattern.slots)
    neuron = np.arange(pattern.n_in)
    place = order.memory(neuron) * order.depth_words + order.word(neuron)
    assert len(np.unique(place)) == pattern.n_in
    assert order.memory(neuron).max() < lanes
    assert order.word(neuron).max() < order.depth_words


def blocks() -> EdgeOrder:
    return order_of(regular(8, 8, fan_in=4, block=2), 4)


def empty_neuron() -> EdgeOrder:
    return order_of(from_mask([[1, 0], [0, 0]]), 1)


def foreign_edges() -> EdgeOrder:
    pattern = regular(4, 2, fan_in=2)
    return EdgeOrder(pattern, 2, np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1]))


def out_of_order() -> EdgeOrder:
    pattern = from_mask(np.ones((2, 2)))
    return EdgeOrder(pattern, 2, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: rtl_order(8, 0, 1, 4), "a junction needs at least 1 neuron a side, got 8 -> 0"),
        (
            lambda: rtl_order(1024, 64, 4, 100),
            "1024 left neurons cannot be spread over 100 lanes; choose a divisor of 1024, such as "
            "64 or 128",
        ),
        (
            lambda: rtl_order(100, 30, 7, 10),
            "100 left neurons with fan_out 7 make 700 edges, which 30 right neurons cannot share "
            "equally, at most 100 each; choose a fan_out such as 6 or 9",
        ),
        (
            lambda: rtl_order(8, 4, 5, 4),
            "8 left neurons with fan_out 5 make 40 edges, which 4 right neurons cannot share "
            "equally, at most 8 each; choose a fan_out such as 4",
        ),
        (
            lambda: rtl_order(8, 4, 1, 4, [[0, 1, 2, 0]]),
            "start addresses must lie in 0..1, the words of a memory, got 0..2",
        ),
        (
            lambda: rtl_order(8, 4, 1, 4, [[0, 1]]),
            "start addresses must be [fan_out 1, lanes 4], got shape [1, 2]",
        ),
        (
            # a right neuron of 8 edges takes 4 of the last words and 4 of the first
            lambda: rtl_order(12, 3, 2, 4, [[0] * 4, [2] * 4]),
            "the edge from left neuron 8 to right neuron 1 is given more than once; choose other "
            "start addresses or edges",
        ),
        (
            lambda: order_of(clash_free(8, 8, fan_in=4, banks=4), 2),
            "Pattern(clash_free, 8 -> 8, 32 edges, density 0.5, fan_in 4, fan_out 4) has 4 banks, "
            "which cannot serve 2 lanes; take 4 lanes or draw it with banks=2",
        ),
        (
            lambda: order_of(regular(4, 4, fan_in=2), 9),
            "9 lanes for a junction of 8 edges; choose 1 to 8",
        ),
        (
            blocks,
            "the machine's unit of work is one edge, got blocks (2, 2); draw the pattern with "
            "block=1",
        ),
        (
            empty_neuron,
            "right neuron 1 has no edge, so nothing would ever compute it; choose a pattern in "
            "which every right neuron has one",
        ),
        (
            foreign_edges,
            "the edges listed are not those of Pattern(regular, 4 -> 2, 4 edges, density 0.5, "
            "fan_in 2, fan_out 1)",
        ),
        (out_of_order, "edges must come in the order of their right neurons"),
    ],
)
def test_errors(build: Callable[[], EdgeOrder], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        build()


def test_sizes_are_whole() -> None:
    with pytest.raises(TypeError, match=r"^lanes must be a whole number, got 4\.0$"):
        rtl_order(8, 4, 1, 4.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("build", [clash_free, cyclic])
def test_banked_patterns_bring_their_order(build: Callable[..., Pattern]) -> None:
    order = order_of(build(16, 8, fan_in=8, banks=4, seed=3), 4)
    memories = order.memory(order.left).reshape(-1, 4)
    assert all(sorted(row) == [0, 1, 2, 3] for row in memories.tolist())


def test_listed_edges_keep_their_order() -> None:
    order = edges_listed(3, 2, [2, 0, 1, 2], [0, 0, 1, 1], 2)
    assert order.left.tolist() == [2, 0, 1, 2]
    assert order.slot.tolist() == [1, 0, 2, 3]

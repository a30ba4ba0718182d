"""Issue of rows: verdicts on the published configurations, clashes and stalls."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hw.machines import junction_patterns
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_hw.edges import EdgeOrder, order_of, rtl_order
from dnc_hw.issue import RowClash, issue
from dnc_hw.presets import preset
from dnc_sparse.patterns import clash_free, find_clashes


@pytest.mark.parametrize(
    ("name", "pipeline_clocks", "hazards"),
    [
        ("test-deep", 0, False),
        ("test-deep", 2, False),
        ("test-shallow", 0, False),
        ("test-shallow", 2, True),
        ("mnist-12bit", 0, False),
        ("mnist-12bit", 2, True),
    ],
)
def test_published_verdicts(name: str, pipeline_clocks: int, hazards: bool) -> None:
    found = preset(name, pipeline_clocks=pipeline_clocks).issues
    assert found[0].hazards == ()
    assert bool(found[1].hazards) == hazards


def test_where_and_when_the_published_hazard_strikes() -> None:
    # memories of 2 words are read again 2 clocks later, 4 are needed; all but the first 2 rows
    hazards = preset("mnist-12bit-pipelined").issues[1].hazards
    assert len(hazards) == 30 * 32
    assert hazards[0] == (2, 0, 0, 0, 2)
    assert {hazard.gap_clocks for hazard in hazards} == {2}


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("pipeline_clocks", [0, 1, 2, 4])
def test_equal_starts_need_memories_of_pipeline_and_two_words(
    depth: int, pipeline_clocks: int
) -> None:
    order = rtl_order(depth * 8, 8, 2, 8)
    found = issue(order, pipeline_clocks, accumulates=True, stalls=False)
    assert bool(found.hazards) == (depth < pipeline_clocks + 2)


def test_stalls_wait_for_the_write() -> None:
    order = rtl_order(64, 32, 16, 32)
    stalled = issue(order, 2, accumulates=True, stalls=True)
    # two rows of different words, then two clocks of waiting, 15 times
    assert [step.clock for step in stalled.steps[:6]] == [0, 1, 4, 5, 8, 9]
    assert (stalled.hazards, stalled.hazard_stall_clocks, stalled.clocks) == ((), 30, 62)


def test_clashes_of_unbanked_edges() -> None:
    order = EdgeOrder(
        *(order_of(clash_free(8, 2, fan_in=8, banks=4), 4).pattern, 4),
        *(np.array([0, 4, 1, 2, 3, 5, 6, 7] * 2), np.repeat([0, 1], 8)),
    )
    found = issue(order, 0, accumulates=False, stalls=False)
    assert found.clashes[:2] == (RowClash(0, 0, 2), RowClash(1, 3, 2))
    assert [step.edges.tolist() for step in found.steps[:3]] == [[0, 2, 3], [1], [4, 5, 6]]
    assert (found.clash_stall_clocks, found.clocks) == (4, 8)
    # right neuron 0 begins with the first step of its first row, ends with the last of its last
    assert [step.starts.tolist() for step in found.steps[:2]] == [[0], []]
    assert [step.finishes.tolist() for step in found.steps[2:4]] == [[], [0]]


@given(st.data())
@settings(deadline=None)
def test_clashes_are_those_of_the_pattern(data: st.DataObject) -> None:
    sizes = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    pattern, lanes = data.draw(junction_patterns(*sizes, at_least=1))
    order = order_of(pattern, lanes)
    found = issue(order, 0, accumulates=False, stalls=False)
    if pattern.spec["family"] in ("clash_free", "cyclic"):
        assert found.clashes == ()
    elif pattern.n_in % lanes == 0:
        listed = find_clashes(pattern, lanes, "interleaved")
        assert found.clashes == tuple(RowClash(*clash) for clash in listed)


@given(st.data(), st.integers(0, 4), st.booleans())
@settings(deadline=None)
def test_every_step_is_legal(data: st.DataObject, pipeline_clocks: int, stalls: bool) -> None:
    sizes = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    pattern, lanes = data.draw(junction_patterns(*sizes, at_least=1))
    order = order_of(pattern, lanes)
    found = issue(order, pipeline_clocks, accumulates=True, stalls=stalls)
    clocks = [step.clock for step in found.steps]
    assert clocks == sorted(set(clocks))
    # each edge once, each memory at most once a step
    assert sorted(np.concatenate([step.edges for step in found.steps])) == [*range(pattern.n_edges)]
    for step in found.steps:
        assert max(Counter(order.memory(order.left[step.edges]).tolist()).values()) == 1
    # right neurons begin before they end, in natural order
    for side in ("starts", "finishes"):
        listed = np.concatenate([getattr(step, side) for step in found.steps])
        assert listed.tolist() == [*range(pattern.n_out)]
    # hazards by comparing every pair of touches of a neuron
    touched: dict[int, list[int]] = {}
    expected = 0
    for step in found.steps:
        for left in order.left[step.edges].tolist():
            before = touched.setdefault(left, [])
            expected += bool(before) and step.clock - before[-1] < pipeline_clocks + 2
            before.append(step.clock)
    assert len(found.hazards) == expected
    if stalls:
        assert found.hazards == ()
    assert found.clocks == order.rows + found.clash_stall_clocks + found.hazard_stall_clocks

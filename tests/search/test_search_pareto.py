"""The front over error and complexity, and the area it dominates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc_search.pareto import Point, front, hypervolume
from dnc_search.record import Record

# few different values, so that many are equal
points = st.lists(
    st.tuples(st.integers(0, 5).map(lambda n: n / 5), st.integers(0, 5).map(float)), max_size=12
)


def records(given_points: list[Point], state: str = "complete") -> list[Record]:
    return [
        Record("network", slot, {}, state, {"error": error, "edges": complexity})  # type: ignore[arg-type]
        for slot, (error, complexity) in enumerate(given_points)
    ]


def test_a_front_by_hand() -> None:
    found = front(
        records([(0.3, 10), (0.1, 50), (0.2, 50), (0.3, 10), (0.4, 5), (0.4, 6)]), "edges"
    )
    assert [record.slot for record in found] == [4, 0, 1]


@given(points)
def test_the_front_is_what_nothing_beats(given_points: list[Point]) -> None:
    everyone = records(given_points)
    found = front(everyone, "edges")
    places = [(record.error, record.measures["edges"]) for record in found]
    assert len(set(places)) == len(places)
    for error, complexity in given_points:
        beaten = any(
            e <= error and c <= complexity and (e, c) != (error, complexity)
            for e, c in given_points
        )
        assert ((error, complexity) in places) == (not beaten)
    firsts = [given_points.index(place) for place in places]
    assert [record.slot for record in found] == firsts
    assert [place[1] for place in places] == sorted(place[1] for place in places)


def test_failures_and_what_was_not_measured_are_left_out() -> None:
    able = records([(0.5, 3.0)])
    assert front([*records([(0.1, 1.0)], "failed"), *able], "edges") == able
    assert front(able, "parameters") == []


@given(points)
def test_hypervolume_is_the_area_of_a_grid(given_points: list[Point]) -> None:
    """On points of a grid the area is a count of its cells."""
    cells = np.zeros((6, 6), bool)
    for error, complexity in given_points:
        cells[round(5 * error) :, round(complexity) :] = True
    expected = cells[:5, :5].sum() / 5
    assert hypervolume(given_points, (1.0, 5.0)) == pytest.approx(expected)


def test_hypervolume_beyond_the_reference_is_nothing() -> None:
    assert hypervolume([(0.5, 20), (2.0, 1)], (1.0, 10)) == 0
    assert hypervolume([], (1.0, 10)) == 0

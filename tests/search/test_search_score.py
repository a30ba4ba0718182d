"""One figure from error and complexity, for any w_c."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc_search.record import Record
from dnc_search.score import LEAST, Ranked, relative_complexity, rescore, score

BASELINE = {"parameters": 478_410.0, "seconds_per_epoch": 2.0}
SOFTMAX = {"error": 0.151, "parameters": 7_850.0, "seconds_per_epoch": 0.5}
LARGE = {"error": 0.097, "parameters": 258_000.0, "seconds_per_epoch": 1.5}


def record(slot: int, measures: dict[str, float], state: str = "complete") -> Record:
    return Record("network", slot, {"neurons": slot}, state, measures)  # type: ignore[arg-type]


def test_the_formula() -> None:
    expected = math.log10(0.151 + 0.1 * 7_850 / 478_410)
    assert score(SOFTMAX, BASELINE, 0.1) == pytest.approx(expected)
    both = {"parameters": 0.25, "seconds_per_epoch": 0.75}
    f_c = 0.25 * 7_850 / 478_410 + 0.75 * 0.25
    assert relative_complexity(SOFTMAX, BASELINE, both) == pytest.approx(f_c)
    assert score(SOFTMAX, BASELINE, 2, both) == pytest.approx(math.log10(0.151 + 2 * f_c))
    assert relative_complexity(BASELINE, BASELINE, both) == 1


def test_w_c_decides_who_wins() -> None:
    records = [record(0, SOFTMAX), record(1, LARGE)]
    assert [each.record.slot for each in rescore(records, BASELINE, 0)] == [1, 0]
    assert [each.record.slot for each in rescore(records, BASELINE, 10)] == [0, 1]


@given(
    error=st.floats(0, 1),
    parameters=st.floats(0, 1e6),
    w_c=st.floats(0, 100),
    more=st.floats(1e-3, 1),
)
def test_a_worse_candidate_never_scores_better(
    error: float, parameters: float, w_c: float, more: float
) -> None:
    before = score({"error": error, "parameters": parameters}, BASELINE, w_c)
    assert math.isfinite(before)
    assert score({"error": error + more, "parameters": parameters}, BASELINE, w_c) > before
    larger = {"error": error, "parameters": parameters * (1 + more)}
    assert score(larger, BASELINE, w_c) >= before


def test_a_candidate_without_error_has_a_score() -> None:
    assert score({"error": 0.0, "parameters": 1.0}, BASELINE, 0) == math.log10(LEAST)


@pytest.mark.parametrize("w_c", [0, 0.01, 10])
def test_a_failure_is_finite_and_last(w_c: float) -> None:
    # slower than the baseline, and an error above 1, as in regression
    wild = {"error": 3.0, "parameters": 9e5, "seconds_per_epoch": 4.0}
    records = [
        record(0, {"parameters": 10.0}, "failed"),
        record(1, SOFTMAX),
        record(2, {}, "failed"),
        record(3, wild),
    ]
    ranking = rescore(records, BASELINE, w_c, {"seconds_per_epoch": 1.0})
    assert [each.record.slot for each in ranking] == [1, 3, 0, 2]
    assert all(math.isfinite(each.score) for each in ranking)
    assert ranking[2].score == ranking[3].score >= ranking[1].score
    alone = rescore(records[2:3], BASELINE, w_c)
    assert alone == [Ranked(records[2], pytest.approx(math.log10(1 + w_c)))]


def test_a_stopped_candidate_counts_with_the_error_it_had() -> None:
    stopped = record(1, {**SOFTMAX, "error": 0.12}, "stopped")
    ranking = rescore([record(0, SOFTMAX), stopped], BASELINE, 0)
    assert [each.record.slot for each in ranking] == [1, 0]


def test_the_earlier_of_equal_ones_is_first() -> None:
    records = [record(slot, SOFTMAX) for slot in (4, 2, 3)]
    assert [each.record.slot for each in rescore(records, BASELINE, 1)] == [4, 2, 3]


@pytest.mark.parametrize(
    ("w_c", "penalty", "message"),
    [
        (-0.1, {"parameters": 1}, "w_c must be 0 or more and finite, got -0.1; 0 counts the error"),
        (math.nan, {"parameters": 1}, "w_c must be 0 or more and finite, got nan"),
        (math.inf, {"parameters": 1}, "w_c must be 0 or more and finite, got inf"),
        (1, {}, "the shares of the penalty must add up to 1, got none, which add up to 0"),
        (
            1,
            {"parameters": 0.5, "seconds_per_epoch": 0.2},
            "the shares of the penalty must add up to 1, got parameters 0.5, seconds_per_epoch "
            "0.2, which add up to 0.7",
        ),
        (
            1,
            {"parameters": 1.5, "seconds_per_epoch": -0.5},
            "every share of the penalty must be 0 or more and finite, got parameters 1.5, seconds",
        ),
        (
            1,
            {"flops": 1},
            "flops of the candidate was not measured; measured: parameters, seconds_per_epoch; "
            "penalise one of these, or search again with it among the measures",
        ),
    ],
)
def test_what_cannot_be_scored(w_c: float, penalty: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        score(SOFTMAX, BASELINE, w_c, penalty)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        rescore([record(0, SOFTMAX)], BASELINE, w_c, penalty)


def test_a_baseline_of_nothing() -> None:
    message = r"^parameters of the baseline is 0, so nothing can be relative to it; leave it out of"
    with pytest.raises(ValueError, match=message):
        score(SOFTMAX, {"parameters": 0.0}, 1)
    with pytest.raises(ValueError, match=r"^parameters of the baseline was not measured; measured"):
        score(SOFTMAX, {}, 1)

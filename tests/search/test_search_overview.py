"""How far a search is and how long it still takes, as `status` and the bar of `run` say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnc_search.cli.status import headline
from dnc_search.overview import Overview, StageCount, overview
from dnc_search.record import Record
from dnc_search.stages import SearchFailed
from dnc_search.worker import Worker
from search import toy


def record(stage: str, slot: int, seconds: float) -> Record:
    return Record(stage, slot, {"nodes": slot}, "complete", {"error": 0.5}, seconds=seconds)


CANDIDATES = (record("architecture", 0, 2.0), record("architecture", 1, 4.0))
BASELINE = record("baseline", 0, 100.0)


def counts(*stages: tuple[str, int, int]) -> tuple[StageCount, ...]:
    return tuple(StageCount(name, budget, done, 0, 0) for name, budget, done in stages)


def test_nothing_is_known_before_a_candidate_is_trained() -> None:
    stages = counts(("baseline", 1, 1), ("architecture", 5, 0))
    assert Overview(stages, (), {}, (BASELINE,)).seconds_left is None


def test_final_runs_are_as_long_as_their_epochs_and_networks() -> None:
    stages = counts(("baseline", 1, 1), ("architecture", 5, 2), ("final", 2, 0))
    best = {0.0: CANDIDATES[1], 1.0: CANDIDATES[1]}
    now = Overview(stages, (), best, (BASELINE, *CANDIDATES), final_share=3)
    # three candidates of 3 s, two final runs of 12 s
    assert now.seconds_left == pytest.approx(33)


def test_final_runs_that_are_done_tell_of_the_rest() -> None:
    stages = counts(("baseline", 1, 1), ("architecture", 2, 2), ("final", 3, 1))
    records = (BASELINE, *CANDIDATES, record("final", 0, 20.0))
    now = Overview(stages, (), {0.0: CANDIDATES[0]}, records, final_share=3)
    assert now.seconds_left == pytest.approx(40)


def test_a_search_that_found_nothing_has_failed_and_is_not_finished(tmp_path: Path) -> None:
    with toy.ledger(tmp_path) as ledger:
        before = overview(ledger, toy.course())
        with pytest.raises(SearchFailed):
            Worker(ledger, toy.course(), toy.Failing(limit=0)).run()
        now = overview(ledger, toy.course())
    assert (before.failure, before.is_finished) == (None, False)
    assert not now.is_finished
    assert now.failure is not None
    assert now.failure.startswith("all 8 candidates failed, the first because out of memory")
    assert headline(now).startswith("9 of 17 slots done: the search has failed: all 8 candidates")

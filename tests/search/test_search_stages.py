"""What the records decide: budgets, candidates, incumbents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from search.toy import SEARCH, STAGES, course

from dnc_search.parameters import Config
from dnc_search.record import Record
from dnc_search.space import Grid
from dnc_search.stages import Course, SearchFailed

PRESETS = {"shape": "round", "rate": 1e-3}
BASELINE = Record("baseline", 0, {"width": 1000, **PRESETS}, "complete", {"width": 1000.0})


def record(stage: str, slot: int, width: int, error: float, **config: float | str) -> Record:
    measures = {"width": float(width), "error": error}
    return Record(stage, slot, {**PRESETS, "width": width, **config}, "complete", measures)


def failed(slot: int) -> Record:
    return Record("width", slot, {**PRESETS, "width": 5}, "failed", {}, failure="out of memory")


HISTORY = [BASELINE, record("width", 0, 900, 0.1), record("width", 1, 90, 0.2), failed(2)]


def configs(of: Course, stage: str, history: Sequence[Record]) -> list[Config]:
    return [of.choose(stage, s, history, [], []).config for s in range(of.budget(stage, history))]


def test_each_w_c_has_its_incumbent() -> None:
    best = course().incumbents(HISTORY)
    assert {w_c: record.config["width"] for w_c, record in best.items()} == {0.0: 900, 1.0: 90}


def test_a_later_candidate_must_be_strictly_better() -> None:
    later = [*HISTORY, record("shape", 0, 900, 0.1, shape="long")]
    assert course().incumbent(later, 0.0).stage == "width"


def test_a_candidate_stopped_early_counts_with_the_error_it_had() -> None:
    early = replace(record("shape", 0, 900, 0.05), state="stopped")
    assert course().incumbent([*HISTORY, early], 0.0) is early


def test_a_failed_candidate_costs_as_much_as_the_largest_and_errs_always() -> None:
    assert course().loss(failed(0), HISTORY, 1.0) == pytest.approx(0.30103)


def test_without_a_candidate_that_trains_the_search_says_why() -> None:
    with pytest.raises(SearchFailed, match=r"^all 1 candidates failed, the first because out of"):
        course().incumbent([BASELINE, failed(0)], 0.0)
    broken = replace(BASELINE, state="failed", failure="too big")
    with pytest.raises(SearchFailed, match=r"^the largest network .* cannot be trained: too big;"):
        course().incumbent([broken, *HISTORY[1:]], 0.0)


def test_a_grid_changes_each_incumbent_once_and_skips_what_is_known() -> None:
    found = [(c["width"], c["shape"]) for c in configs(course(), "shape", HISTORY)]
    # round is what both were trained with
    assert found == [(900, "flat"), (900, "long"), (90, "flat"), (90, "long")]
    single = course(replace(SEARCH, w_c=(0.0,)))
    assert len(configs(single, "shape", HISTORY)) == 2


def test_a_grid_may_have_nothing_to_try() -> None:
    nothing = (*STAGES[:1], Grid("none", lambda config: [{"shape": "round"}]))
    assert course(stages=nothing).budget("none", HISTORY) == 0


def test_winners_are_trained_anew_once_per_seed_with_the_same_seeds() -> None:
    ran = course()
    assert [c["width"] for c in configs(ran, "final", HISTORY)] == [900, 900, 90, 90]
    seeds = [ran.seed("final", slot) for slot in range(4)]
    assert seeds[:2] == seeds[2:]
    assert len(set(seeds)) == 2


def test_proposals_take_the_w_c_in_turn_and_start_from_their_incumbents() -> None:
    widths = [c["width"] for c in configs(course(), "rate", HISTORY)]
    assert widths == [900, 90] * 4


def test_choices_depend_on_nothing_but_the_records() -> None:
    known = [record("width", slot, 10 * slot + 5, 0.3 - slot / 50) for slot in range(4)]
    chosen = [course().choose("width", 6, [BASELINE], known, []).config for _ in range(2)]
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize("sampler", ["ramp", "tpe", "gp", "random"])
def test_what_is_known_or_pending_is_never_chosen_again(sampler: str) -> None:
    small = replace(STAGES[0], parameters=(replace(STAGES[0].parameters[0], high=10),))  # type: ignore[union-attr]
    ran = course(replace(SEARCH, sampler=sampler), (small,))  # type: ignore[arg-type]
    known: list[Record] = []
    for slot in range(8):
        pending = [known[-1].config] if known else []
        choice = ran.choose("width", slot, [BASELINE], known[:-1], pending)
        known.append(record("width", slot, int(choice.config["width"]), 0.5))
    assert len({r.key for r in known}) == 8


def test_stages_that_cannot_follow_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^the first stage must propose networks, .* got shape$"):
        course(stages=STAGES[1:2])
    with pytest.raises(ValueError, match=r"^two stages have one name: baseline, width, width"):
        course(stages=STAGES[:1] * 2)

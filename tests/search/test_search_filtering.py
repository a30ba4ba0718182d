"""A filter chooses among proposals, the same way every time, and what it saw is recorded."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from search.toy import SEARCH, STAGES

from dnc_search.assembly import assemble
from dnc_search.definition import Search, digest_of
from dnc_search.evaluation import Evaluation, OnEpoch, Settings, evaluate
from dnc_search.parameters import Config, Integer
from dnc_search.record import Record
from dnc_search.space import Bayesian, Shape
from dnc_search.spaces import Mlp, space_record
from dnc_search.stages import Candidate, Course, Promise
from dnc_search.worker import Worker
from search import toy

BASELINE = Record("baseline", 0, {"width": 1000, "shape": "round"}, "complete", {"width": 1000.0})
KNOWN = [
    Record(
        "width",
        slot,
        {"shape": "round", "rate": 1e-3, "width": width},
        "complete",
        {"width": float(width), "error": 0.5 - width / 3000},
    )
    for slot, width in enumerate((100, 300, 500, 900))
]


def width(config: Config, seed: int) -> float:
    return float(config["width"])


def filtered(promise: Promise | None = width, **changes: object) -> Course:
    search = replace(SEARCH, w_c=(0.0,), **changes)  # type: ignore[arg-type]
    return replace(toy.course(search), promise=promise)


def choose(course: Course, slot: int, known: Sequence[Record] = ()) -> Candidate:
    return course.choose("width", slot, [BASELINE], known, [])


@pytest.mark.parametrize("sampler", ["ramp", "tpe", "gp", "random"])
@pytest.mark.parametrize("slot", [0, 6])
def test_the_most_promising_of_four_different_proposals_is_chosen(sampler: str, slot: int) -> None:
    course = filtered(sampler=sampler)
    known = KNOWN if slot else []
    chosen = choose(course, slot, known)
    assert len(set(chosen.promises)) == 4
    assert chosen.config["width"] == max(p for p in chosen.promises if p is not None)
    # the same again, and first of the proposals the one that needs no filter
    assert choose(course, slot, known) == chosen
    assert (
        chosen.promises[0] == choose(filtered(None, sampler=sampler), slot, known).config["width"]
    )


def test_equal_promises_leave_the_proposal_as_it_is() -> None:
    assert choose(filtered(lambda config, seed: 1.0), 2).config == choose(filtered(None), 2).config


def test_what_promises_nothing_comes_last() -> None:
    unfiltered = choose(filtered(None), 2).config
    chosen = choose(filtered(lambda c, s: None if c == unfiltered else -9.0), 2)
    assert chosen.promises == (None, -9.0, -9.0, -9.0)
    assert chosen.config != unfiltered
    nothing = choose(filtered(lambda config, seed: None), 2)
    assert nothing.config == unfiltered


def test_the_promise_is_of_the_network_that_the_slot_trains() -> None:
    seeds: list[int] = []

    def note(config: Config, seed: int) -> float:
        seeds.append(seed)
        return 0.0

    course = filtered(note)
    choose(course, 3)
    assert seeds == [course.seed("width", 3)] * 4


def test_where_little_is_left_there_is_less_to_choose_from() -> None:
    stage = STAGES[0]
    assert isinstance(stage, Bayesian)
    narrow = replace(stage, parameters=(Integer("width", 1, 3),))
    course = replace(filtered(), stages=(narrow,))
    known = [replace(KNOWN[0], config={**KNOWN[0].config, "width": 1})]
    assert choose(course, 5, known).promises in {(2.0, 3.0), (3.0, 2.0)}


def test_stages_after_the_first_are_not_filtered() -> None:
    course = filtered()
    assert course.choose("rate", 0, [BASELINE, *KNOWN], [], []).promises == ()
    assert not choose(filtered(None), 0).promises


class Interrupting(toy.Formula):
    """An evaluator in whose fourth candidate Ctrl-C arrives."""

    begun = 0

    def candidate(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        self.begun += 1
        if self.begun == 4:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return super().candidate(config, seed, on_epoch)


def test_promises_are_in_the_ledger_and_survive_a_stop(tmp_path: Path) -> None:
    course = replace(filtered(), stages=STAGES[:1])
    found = []
    for name in ("undisturbed", "stopped"):
        (tmp_path / name).mkdir()
        with toy.ledger(tmp_path / name) as ledger:
            if name == "stopped":
                with pytest.raises(KeyboardInterrupt):
                    Worker(ledger, course, Interrupting()).run()
            Worker(ledger, course, toy.Formula()).run()
            promises = [slot.attempts[-1].user_attrs["promises"] for slot in ledger.slots("width")]
            widths = [record.config["width"] for record in ledger.records("width")]
            assert widths == [max(each) for each in promises]
            found.append((toy.outline(ledger, course), promises))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["naswot", "parameters"])
def test_a_search_is_filtered_by_its_data(name: str, data: Path, tmp_path: Path) -> None:
    space = Mlp(nodes=(4, 16))
    search = Search(
        name="filtered",
        data=str(data),
        data_digest=digest_of(str(data)),
        shape=asdict(Shape(4, 3)),
        space=space_record(space),
        settings=asdict(Settings(epochs=1)),
        filter=name,  # type: ignore[arg-type]
    )
    course, training = assemble(search, folder=tmp_path)
    assert course.promise is not None
    config = training.space.complete({"hidden_layers": 1, "nodes_1": 8}, Shape(4, 3))
    done = evaluate(space, config, training.data, training.settings, seed=7)  # type: ignore[attr-defined]
    assert course.promise(config, 7) == {**done.measures, **done.proxies}[name]
    plain, _ = assemble(replace(search, filter="none"), folder=tmp_path)
    assert plain.promise is None

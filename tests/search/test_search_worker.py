"""Workers: one repeats itself, several share, and stopping one loses nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from dnc_search.evaluation import Evaluation, OnEpoch
from dnc_search.ledger import Ledger, sqlite_url
from dnc_search.parameters import Config, Integer
from dnc_search.space import Bayesian
from dnc_search.stages import SearchFailed
from dnc_search.worker import Worker
from search import toy


def run(folder: Path, evaluator: toy.Formula | None = None, **changes: object) -> list[object]:
    """Run the toy search in a new folder and return its outline."""
    folder.mkdir(exist_ok=True)
    course = toy.course(replace(toy.SEARCH, **changes))  # type: ignore[arg-type]
    with toy.ledger(folder) as ledger:
        Worker(ledger, course, evaluator or toy.Formula(), poll_seconds=0.05).run()
        return list(toy.outline(ledger, course))


def test_one_worker_with_one_seed_chooses_the_same_twice(tmp_path: Path) -> None:
    first = run(tmp_path / "a")
    assert first == run(tmp_path / "b")
    assert first != run(tmp_path / "c", seed=1)


def test_every_stage_is_done_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    found = run(tmp_path)
    stages = Counter(row[0] for row in found)  # type: ignore[index]
    assert stages == {"baseline": 1, "width": 8, "shape": 4, "rate": 8, "final": 4}
    keys = [row[2] for row in found if row[0] not in ("baseline", "final")]  # type: ignore[index]
    assert len(set(keys)) == len(keys)


def test_a_finished_search_has_nothing_left_to_do(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run(tmp_path, toy.Formula(log=log)) == run(tmp_path, toy.Formula(log=log))
    assert len(log.read_text().splitlines()) == 25


def test_two_workers_share_a_search(tmp_path: Path) -> None:
    log, url = tmp_path / "log", sqlite_url(tmp_path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["search.toy"])
    with Ledger(url, toy.SEARCH.name) as ledger:
        workers = [context.Process(target=_work, args=(url, log)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert [worker.exitcode for worker in workers] == [0, 0]
        slots = [row[:2] for row in toy.outline(ledger, toy.course())]
    assert len(set(slots)) == len(slots) == 25
    lines = log.read_text().splitlines()
    assert len(lines) == 25
    # both did a fair share
    shares = Counter(line.split()[0] for line in lines)
    assert len(shares) == 2
    assert min(shares.values()) >= 5


def _work(url: str, log: Path) -> None:
    toy.work(url, toy.course(), toy.Formula(0.2, log))


def test_a_candidate_that_fails_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    found = run(tmp_path, toy.Failing())
    failed = [row for row in found if row[3] == "failed"]  # type: ignore[index]
    assert failed
    assert all(row[4] == 1.0 for row in failed)  # type: ignore[index]
    assert len(found) == 25


def test_when_nothing_can_be_trained_the_search_says_so(tmp_path: Path) -> None:
    with pytest.raises(SearchFailed, match=r"^all 8 candidates failed, the first because out of"):
        run(tmp_path, toy.Failing(limit=0))


def test_a_space_that_cannot_give_the_next_candidate_is_named(tmp_path: Path) -> None:
    class Odd(ValueError):
        """What a user's code may raise; Optuna raises a ValueError of its own for lost trials."""

    def complete(config: Config) -> Config:
        if float(config.get("width", 0)) < 1000:
            raise Odd("nothing is narrow here")
        return {"shape": "round", "rate": 1e-3, **config}

    course = replace(toy.course(), complete=complete)
    told = (
        r"^the space cannot give candidate 1 of the width stage: Odd: nothing is narrow here \(te"
    )
    with toy.ledger(tmp_path) as ledger:
        with pytest.raises(SearchFailed, match=told):
            Worker(ledger, course, toy.Formula()).run()
        # mended, it goes on, and the attempt in vain was no candidate
        Worker(ledger, toy.course(), toy.Formula()).run()
        assert len(toy.outline(ledger, toy.course())) == 25


def test_an_evaluator_that_raises_ends_its_worker(tmp_path: Path) -> None:
    class Lost(toy.Formula):
        def candidate(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
            raise ValueError("no validation split")

    with pytest.raises(ValueError, match=r"^no validation split"):
        run(tmp_path, Lost())


def test_nothing_is_trained_without_a_baseline(tmp_path: Path) -> None:
    class TooLarge(toy.Formula):
        def baseline(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
            return Evaluation("failed", {}, (), 0.0, "out of memory: too wide")

    with pytest.raises(SearchFailed, match=r"^the largest network .* cannot be trained: out of"):
        run(tmp_path, TooLarge())
    with toy.ledger(tmp_path) as ledger:
        assert ledger.stages() == ["baseline"]


def test_a_stage_without_candidates_left_goes_on_with_fewer(tmp_path: Path) -> None:
    width = toy.STAGES[0]
    assert isinstance(width, Bayesian)
    narrow = replace(width, parameters=(Integer("width", 1, 5),))
    course, lines = toy.course(stages=(narrow,)), []
    with toy.ledger(tmp_path) as ledger:
        Worker(ledger, course, toy.Formula(), tell=lines.append).run()
        assert len(ledger.records("width")) == 5
        assert len(ledger.slots("width")) == 8
    assert len(lines) == 3
    assert lines[0].startswith("stage width has nothing new to propose")


class Interrupting(toy.Formula):
    """An evaluator in whose fifth candidate a signal arrives."""

    number, begun = signal.SIGINT, 0

    def candidate(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        self.begun += 1
        if self.begun == 5:
            os.kill(os.getpid(), self.number)
            time.sleep(5)
        return super().candidate(config, seed, on_epoch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_worker_gives_its_candidate_back(tmp_path: Path, number: signal.Signals) -> None:
    undisturbed = run(tmp_path / "a")
    stopped = Interrupting()
    stopped.number = number
    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=r"^stopped; the candidate in training was given"):
        run(tmp_path / "b", stopped)
    assert signal.getsignal(number) is handler
    with toy.ledger(tmp_path / "b") as ledger:
        assert [trial.state.name for trial in ledger.trials("width")][-1] == "WAITING"
    # the ledger of a stopped search leads to the same end
    assert run(tmp_path / "b") == undisturbed


class Losing(toy.Formula):
    """An evaluator whose trial is taken away while it trains, as if it had been silent."""

    ledger: Ledger
    begun = 0

    def candidate(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        self.begun += 1
        if self.begun == 3:
            study = self.ledger.study("width")
            study.tell(study.trials[-1].number, state=TrialState.FAIL)
        return super().candidate(config, seed, on_epoch)


def test_a_result_that_comes_too_late_is_dropped(tmp_path: Path) -> None:
    evaluator, lines = Losing(), []
    with toy.ledger(tmp_path) as ledger:
        evaluator.ledger = ledger
        Worker(ledger, toy.course(), evaluator, tell=lines.append).run()
        assert len(toy.outline(ledger, toy.course())) == 25
    assert lines == [
        "width: a candidate was given to another worker, as this one had not been heard of for "
        "too long"
    ]


@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median", "curve"])
def test_pruners_stop_candidates_and_the_search_ends(tmp_path: Path, pruner: str) -> None:
    long = toy.Formula(epochs=18)
    found = run(tmp_path, long, pruner=pruner, w_c=(0.0,), steps=16)
    states = Counter(row[3] for row in found if row[0] == "width")  # type: ignore[index]
    assert states.total() == 20
    assert states["stopped"] > 0, states

"""Workers killed in the middle of a candidate lose nothing and count nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnc_search.evaluation import Evaluation, OnEpoch
from dnc_search.ledger import Ledger, LedgerError, sqlite_url
from dnc_search.parameters import Config
from search import killing, toy

KILLS = 20


@pytest.mark.slow
def test_twenty_kills_on_sqlite(tmp_path: Path) -> None:
    url, log = sqlite_url(tmp_path), tmp_path / "log"
    assert killing.disturb(url, log, KILLS) == KILLS
    killing.check(url, log, KILLS)


@pytest.mark.slow
@pytest.mark.skipif(killing.postgres_missing() is not None, reason=str(killing.postgres_missing()))
def test_twenty_kills_on_postgresql(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with killing.postgres() as server:
        assert killing.disturb(server.url, log, KILLS) == KILLS
        killing.check(server.url, log, KILLS)


class Losing(toy.Formula):
    """An evaluator in whose sixth candidate the database's server stops."""

    def __init__(self, server: killing.Server) -> None:
        super().__init__()
        self.server, self.begun = server, 0

    def candidate(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        self.begun += 1
        if self.begun == 6:
            self.server.stop()
        return super().candidate(config, seed, on_epoch)


@pytest.mark.skipif(killing.postgres_missing() is not None, reason=str(killing.postgres_missing()))
def test_a_server_that_stops_ends_a_worker_with_a_line_and_the_search_goes_on() -> None:
    with killing.postgres() as server:
        with pytest.raises(
            LedgerError, match=r"^cannot write to the ledger postgresql://.*is safe"
        ):
            toy.work(server.url, killing.COURSE, Losing(server))
        server.start()
        # the trial of the worker that ended is given to the next one after its grace
        toy.work(server.url, killing.COURSE, toy.Formula(), **killing.LIVELY)
        with Ledger(server.url, toy.SEARCH.name) as ledger:
            slots = [row[:2] for row in toy.outline(ledger, killing.COURSE)]
    assert slots == [row[:2] for row in killing.reference()]

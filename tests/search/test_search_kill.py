"""Workers killed in the middle of a candidate lose nothing and count nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnc_search.ledger import sqlite_url
from search import killing

KILLS = 20


def test_twenty_kills_on_sqlite(tmp_path: Path) -> None:
    url, log = sqlite_url(tmp_path), tmp_path / "log"
    assert killing.disturb(url, log, KILLS) == KILLS
    killing.check(url, log, KILLS)


@pytest.mark.skipif(killing.postgres_missing() is not None, reason=str(killing.postgres_missing()))
def test_twenty_kills_on_postgresql(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with killing.postgres() as url:
        assert killing.disturb(url, log, KILLS) == KILLS
        killing.check(url, log, KILLS)

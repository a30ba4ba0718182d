"""The ledger: what it keeps, what it refuses, and a database that fails."""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from dnc_search.ledger import Ledger, LedgerError, quiet_optuna, sqlite_url
from dnc_search.worker import Worker
from search import toy


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Ledger]:
    with toy.ledger(tmp_path, heartbeat_seconds=1, grace_seconds=1) as ledger:
        ledger.define(toy.SEARCH)
        yield ledger


def ask(ledger: Ledger, *, config: bool = True) -> optuna.Trial:
    """Begin a trial as a worker does, without heartbeats."""
    with quiet_optuna(), pytest.warns(UserWarning, match="Heartbeat"):
        trial = ledger.study("width").ask()
    if config:
        trial.set_user_attr("config", {"width": 5})
    return trial


def tell(ledger: Ledger, trial: optuna.Trial) -> None:
    trial.set_user_attr("record", {"state": "complete", "measures": {"error": 0.5}})
    ledger.study("width").tell(trial, 0.5)


def fail(ledger: Ledger, trial: optuna.Trial) -> None:
    ledger.study("width").tell(trial, state=TrialState.FAIL)


def states(ledger: Ledger) -> list[str]:
    return [trial.state.name for trial in ledger.trials("width")]


def test_a_definition_is_kept_and_compared(opened: Ledger) -> None:
    opened.define(toy.SEARCH)
    found = opened.definition()
    assert found is not None
    assert not found.differences(toy.SEARCH)
    message = (
        r"holds another search named 'toy': seed was 0, now 1; give the same options .* --name$"
    )
    with pytest.raises(ValueError, match=message):
        opened.define(replace(toy.SEARCH, seed=1))


def test_searches_share_a_database(opened: Ledger, tmp_path: Path) -> None:
    ask(opened)
    other = replace(toy.SEARCH, name="other")
    with Ledger(sqlite_url(tmp_path), "other") as beside:
        assert beside.definition() is None
        beside.define(other)
        assert beside.trials("width") == []
        assert beside.searches() == ["toy", "other"]
    assert opened.stages() == ["width"]


def test_slots_follow_the_trials_and_retries_keep_theirs(opened: Ledger) -> None:
    first, second = ask(opened), ask(opened)
    fail(opened, first)
    tell(opened, second)
    opened.repair("width", 4)
    again = ask(opened, config=False)
    # the retry trains what was chosen before
    assert again.user_attrs == {"slot": 0, "config": {"width": 5}}
    assert [slot.index for slot in opened.slots("width")] == [0, 1]
    assert [record.slot for record in opened.records("width")] == [1]


def test_a_slot_is_queued_once_and_not_beyond_the_budget(opened: Ledger) -> None:
    fail(opened, ask(opened))
    fail(opened, ask(opened))
    for _ in range(3):
        opened.repair("width", 1)
    assert states(opened) == ["FAIL", "FAIL", "WAITING"]


def test_a_candidate_that_ends_its_worker_three_times_has_failed(opened: Ledger) -> None:
    fail(opened, ask(opened))
    for _ in range(2):
        opened.repair("width", 1)
        fail(opened, ask(opened, config=False))
    opened.repair("width", 1)
    (record,) = opened.records("width")
    assert record.state == "failed"
    assert record.failure == "its worker ended without a word 3 times (out of memory?)"
    assert states(opened) == ["FAIL"] * 3


def test_being_stopped_by_a_person_is_no_failure(opened: Ledger) -> None:
    for _ in range(5):
        trial = ask(opened)
        trial.set_user_attr("given back", True)
        fail(opened, trial)
        opened.repair("width", 1)
    assert opened.records("width") == []
    assert states(opened)[-1] == "WAITING"


def test_a_worker_that_died_before_its_first_heartbeat_is_noticed(
    opened: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(opened)
    opened.repair("width", 1)
    assert states(opened) == ["RUNNING"]
    with sqlite3.connect(Path(opened.full_url.removeprefix("sqlite:///"))) as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'")
    database.close()
    opened.repair("width", 1)
    assert states(opened) == ["FAIL", "WAITING"]


def test_reading_never_writes(opened: Ledger, tmp_path: Path) -> None:
    Worker(opened, toy.course(), toy.Formula()).run()
    expected = toy.outline(opened, toy.course())
    opened.close()
    file = tmp_path / "ledger.db"
    before = hashlib.sha256(file.read_bytes()).digest()
    with toy.ledger(tmp_path, read_only=True) as reader:
        assert toy.outline(reader, toy.course()) == expected
        study = reader.study("width")
        with (
            pytest.raises(LedgerError, match=r"^cannot write to the ledger .* readonly database"),
            reader.database_errors("write to"),
        ):
            study.set_user_attr("a", 1)
    assert hashlib.sha256(file.read_bytes()).digest() == before


def test_postgresql_without_its_driver_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"psycopg.*; for PostgreSQL pip install 'dnc-sparse\[po"):
        Ledger("postgresql://a/b", "toy")


def test_what_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"^there is no ledger at .*; name the folder"):
        toy.ledger(tmp_path, read_only=True)
    with pytest.raises(ValueError, match=r"^'nonsense' is not the URL of a database; give"):
        Ledger("nonsense", "toy")
    with pytest.raises(LedgerError, match=r"^cannot open the ledger sqlite:.*unable to open"):
        toy.ledger(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"^a ledger is kept in SQLite or .*, not in mysql; give"):
        Ledger("mysql://a/b", "toy")
    with pytest.raises(
        ImportError, match=r"^the driver of postgresql\+old is missing: .* pip inst"
    ):
        Ledger("postgresql+old://a/b", "toy")
    psycopg = pytest.importorskip("psycopg")
    assert psycopg
    url = f"postgresql://me:secret@/base?host={tmp_path}"
    with pytest.raises(
        LedgerError, match=r"^cannot open the ledger postgresql://me:\*\*\*@"
    ) as error:
        Ledger(url, "toy")
    assert "secret" not in str(error.value)


def test_a_full_disk_stops_a_worker_with_a_line_and_loses_nothing(
    opened: Ledger, tmp_path: Path
) -> None:
    class Filling(toy.Formula):
        def candidate(self, config, seed, on_epoch):  # type: ignore[no-untyped-def]
            if len(opened.records("width")) == 2:
                fill_disk(opened)
            return super().candidate(config, seed, on_epoch)

    with pytest.raises(LedgerError, match=r"^cannot write to the ledger .* is full; what it holds"):
        Worker(opened, toy.course(), Filling()).run()
    opened.close()
    with toy.ledger(tmp_path, heartbeat_seconds=1, grace_seconds=1) as again:
        kept = toy.outline(again, toy.course())
        Worker(again, toy.course(), toy.Formula(), poll_seconds=0.1).run()
        found = toy.outline(again, toy.course())
    assert 3 <= len(kept) < len(found)
    assert set(kept) < set(found)
    assert [row[1] for row in found if row[0] == "width"] == list(range(8))


def fill_disk(ledger: Ledger) -> None:
    """Let no connection add a page to the database."""

    def limit(connection: sqlite3.Connection, record: object, proxy: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    sqlalchemy.event.listen(ledger._storage.engine, "checkout", limit)

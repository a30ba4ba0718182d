"""The ledger of a search: what was asked for, what runs, and what came out, in a database.

Optuna's tables hold it: one study per stage, named `<search>/<stage>`, and one named `<search>` for
the definition. SQLite serves the processes of one machine, PostgreSQL those of several.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from dnc_search.definition import Search
from dnc_search.record import Record
from dnc_search.slots import CHOICE, Slot, slots_of

HEARTBEAT_SECONDS = 60
RETRIES = 2
# how long SQLite waits for another process to end its transaction
LOCK_SECONDS = 60
DEFINITION = "definition"
LEDGER_FILE = "ledger.db"
# the running trials of a study of which no heartbeat is known
SILENT = sqlalchemy.text(
    "SELECT trials.trial_id FROM trials"
    " JOIN studies ON studies.study_id = trials.study_id"
    " LEFT JOIN trial_heartbeats ON trial_heartbeats.trial_id = trials.trial_id"
    " WHERE studies.study_name = :name AND trials.state = 'RUNNING'"
    " AND trial_heartbeats.trial_id IS NULL"
)


class LedgerError(RuntimeError):
    """The database cannot be used now; what it holds is as it was."""


class Storage(RDBStorage):
    """Optuna's storage, whose heartbeat outlasts a lost connection.

    The thread that beats would end with the first failure, and its trial be given to another worker
    although this one goes on; a failure that lasts shows when a result is written.
    """

    def record_heartbeat(self, trial_id: int) -> None:
        """Say that the trial is being worked on."""
        try:
            super().record_heartbeat(trial_id)
        except (StorageInternalError, SQLAlchemyError):
            return


class LoggedConnection(sqlite3.Connection):
    """A connection to SQLite with a write-ahead log: readers and a writer do not wait for another.

    Transactions outlast the death of a process; a power cut may take the last ones back, and their
    trials run again.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = NORMAL")


class Ledger:
    """The database of a search, opened to read and, unless `read_only`, to write.

    `url` is what SQLAlchemy takes; a file of SQLite that is not there is made if `create`. A worker
    says every `heartbeat_seconds` that it lives; its trial is given to another when it has been
    silent for `grace_seconds` (twice that by default), and counts as failed when its worker died
    `retries` + 1 times.

    Raises LedgerError when the database cannot be opened, and as `check_url`.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        heartbeat_seconds: int = HEARTBEAT_SECONDS,
        grace_seconds: int | None = None,
        retries: int = RETRIES,
        read_only: bool = False,
        create: bool = True,
    ) -> None:
        self.name = name
        self.retries = retries
        self.read_only = read_only
        parsed = check_url(url)
        if read_only or not create:
            _check_is_there(parsed)
        self.full_url = url
        # for people to read
        self.url = parsed.render_as_string(hide_password=True)
        with self.database_errors("open"), quiet_optuna():
            self._storage = Storage(
                _engine_url(parsed, read_only=read_only),
                {"connect_args": _connect_args(parsed, read_only=read_only)},
                heartbeat_interval=heartbeat_seconds,
                grace_period=grace_seconds,
                skip_table_creation=read_only,
            )
        # what is read of a finished trial is kept in memory from here on
        self._cached = optuna.storages.get_storage(self._storage)
        self._studies: dict[str, optuna.Study] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def define(self, search: Search) -> None:
        """Write the definition, or compare it with the one that is there.

        Raises ValueError when the ledger has another search of this name.
        """
        before = self.definition()
        if before is None:
            with self.database_errors("write to"):
                study = self._study(self.name)
                study.set_user_attr(DEFINITION, search.record())
            return
        differences = search.differences(before)
        if differences:
            raise ValueError(
                f"{self.url} holds another search named {self.name!r}: {'; '.join(differences)}; "
                f"give the same options to go on with it, or another --out or --name"
            )

    def definition(self) -> Search | None:
        """Return the definition of the search, None when the ledger has no search of this name."""
        with self.database_errors("read"):
            if not self._has(self.name):
                return None
            record = self._study(self.name).user_attrs.get(DEFINITION)
        return None if record is None else Search.from_record(record)

    def searches(self) -> list[str]:
        """Return the names of all searches in the database."""
        with self.database_errors("read"):
            return [name for name in self._study_names() if "/" not in name]

    def stages(self) -> list[str]:
        """Return the names of the stages that have begun, in their order."""
        with self.database_errors("read"):
            prefix = f"{self.name}/"
            return [n.removeprefix(prefix) for n in self._study_names() if n.startswith(prefix)]

    def study(self, stage: str) -> optuna.Study:
        """Return Optuna's study of a stage, which is made when it is new."""
        with self.database_errors("write to"):
            return self._study(f"{self.name}/{stage}")

    def trials(self, stage: str) -> list[FrozenTrial]:
        """Return the trials of a stage by their numbers, as they are now."""
        with self.database_errors("read"):
            if not self._has(f"{self.name}/{stage}"):
                return []
            return self._study(f"{self.name}/{stage}").get_trials(deepcopy=False)

    def slots(self, stage: str) -> list[Slot]:
        """Return the slots of a stage that were asked for."""
        return slots_of(stage, self.trials(stage))

    def records(self, stage: str) -> list[Record]:
        """Return the results of a stage by their slots."""
        found = (slot.record(self.retries) for slot in self.slots(stage))
        return [record for record in found if record is not None]

    def repair(self, stage: str, budget: int) -> None:
        """Take trials from workers that fell silent, and queue what must run again of the budget.

        Any worker may do this at any time, and several at once: where two queue a slot, the later
        trial is surplus and ends when it is started.
        """
        study = self.study(stage)
        with self.database_errors("write to"), quiet_optuna():
            self._start_clocks(stage)
            optuna.storages.fail_stale_trials(study)
            for slot in self.slots(stage)[:budget]:
                if slot.holder is None and not slot.is_settled(self.retries):
                    marks = {"slot": slot.index} | _choice(slot)
                    study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs=marks))

    def _start_clocks(self, stage: str) -> None:
        # a worker that dies before its first heartbeat would hold its trial for ever: Optuna counts
        # silence from a heartbeat on
        with self._storage.engine.connect() as connection:
            silent = connection.execute(SILENT, {"name": f"{self.name}/{stage}"}).scalars().all()
        for trial_id in silent:
            self._storage.record_heartbeat(trial_id)

    def _study(self, name: str) -> optuna.Study:
        if name not in self._studies:
            with quiet_optuna():
                if self.read_only:
                    study = optuna.load_study(study_name=name, storage=self._cached)
                else:
                    study = optuna.create_study(
                        study_name=name, storage=self._cached, load_if_exists=True
                    )
            self._studies[name] = study
        return self._studies[name]

    def _has(self, name: str) -> bool:
        return name in self._studies or name in self._study_names()

    def _study_names(self) -> list[str]:
        return optuna.get_all_study_names(self._cached)

    @contextmanager
    def database_errors(self, action: str) -> Iterator[None]:
        """Turn whatever a database that fails raises into a LedgerError with one clear line."""
        try:
            yield
        except LedgerError:
            raise
        except Exception as error:
            cause = _database_error(error)
            if cause is None:
                raise
            raise LedgerError(
                f"cannot {action} the ledger {self.url}: {_reason(cause)}; what it holds is safe: "
                f"mend the database, or make room, and run the same command again"
            ) from error


def check_url(text: str) -> URL:
    """Return the URL of a database that can hold a ledger.

    Raises ValueError for a malformed one, and for databases other than SQLite and PostgreSQL;
    ImportError, with the way out, without their driver.
    """
    ways = "give one such as sqlite:///search.db or postgresql://user@machine/database"
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ValueError(f"{text!r} is not the URL of a database; {ways}") from error
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(
            f"a ledger is kept in SQLite or PostgreSQL, not in {url.get_backend_name()}; {ways}"
        )
    try:
        _with_driver(url).get_dialect().import_dbapi()
    except (ImportError, NoSuchModuleError) as error:
        raise ImportError(
            f"the driver of {url.drivername} is missing: {error}; for PostgreSQL "
            f"pip install 'dnc-sparse[postgres]'"
        ) from error
    return url


def sqlite_url(folder: Path) -> str:
    """Return the URL of the ledger that a search keeps in its own folder."""
    return f"sqlite:///{folder / LEDGER_FILE}"


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from logging what we tell in our own words, and heartbeats being experimental."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def _choice(slot: Slot) -> dict[str, Any]:
    """Return what was already chosen for a slot: its retry trains the same candidate."""
    for attempt in reversed(slot.attempts):
        if "config" in attempt.user_attrs:
            return {k: v for k, v in attempt.user_attrs.items() if k in CHOICE}
    return {}


def _with_driver(url: URL) -> URL:
    # SQLAlchemy would look for version 2 of the driver
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _check_is_there(url: URL) -> None:
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise LedgerError(f"there is no ledger at {url.database}; name the folder of a search")


def _engine_url(url: URL, *, read_only: bool) -> str:
    url = _with_driver(url)
    if url.get_backend_name() == "sqlite" and read_only:
        path = Path(url.database or "").resolve().as_uri()
        url = url.set(database=path, query={"mode": "ro", "uri": "true"})
    # Optuna formats the text with its own names
    return url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")


def _connect_args(url: URL, *, read_only: bool) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        factory = sqlite3.Connection if read_only else LoggedConnection
        return {"timeout": LOCK_SECONDS, "factory": factory}
    # a machine that vanishes must not hold a connection that waits for ever
    alive: dict[str, Any] = {
        "connect_timeout": 10,
        "keepalives_idle": 30,
        "tcp_user_timeout": 60_000,
    }
    # a database made without a language speaks bytes otherwise
    alive["client_encoding"] = "utf8"
    return alive | ({"options": "-c default_transaction_read_only=on"} if read_only else {})


def _database_error(error: BaseException | None) -> BaseException | None:
    """Return the failure of the database that `error` came of, None when it came of another.

    Optuna's own clean-up can fail over a lost database, so the whole chain is looked at.
    """
    found = None
    while error is not None:
        if isinstance(error, (StorageInternalError, SQLAlchemyError)):
            found = error
        error = error.__cause__ or error.__context__
    return found


def _reason(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split()).rstrip(".")

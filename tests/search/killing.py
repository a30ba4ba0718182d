"""Workers of the toy search that are killed in the middle of a candidate, again and again.

`python tests/search/killing.py --kills 200 [--url postgresql://...]` does it for longer than the
tests do; the folder `tests` must be on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

from dnc_search.ledger import Ledger, sqlite_url
from search import toy

WORKERS = 2
TRIAL_SECONDS = 0.3
LIVELY = {"heartbeat_seconds": 1, "grace_seconds": 3, "retries": 50}
LIMIT_SECONDS = 300
# one long stage: every end of a stage waits for the last trial that was killed
COURSE = toy.course(replace(toy.SEARCH, steps=8), toy.STAGES[:2])


def work(url: str, log: Path) -> None:
    """Work on the search, as a process of its own does."""
    toy.work(url, COURSE, toy.Formula(TRIAL_SECONDS, log), **LIVELY)


def disturb(url: str, log: Path, kills: int, seed: int = 0) -> int:
    """Run the search to its end with `kills` kills of workers, and return how many there were."""
    # processes that have torch loaded already: a start costs milliseconds
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["search.killing"])
    rng, done, started = random.Random(seed), 0, time.monotonic()
    log.touch()

    def start() -> BaseProcess:
        process = context.Process(target=work, args=(url, log))
        process.start()
        return process

    with Ledger(url, toy.SEARCH.name) as opened:
        opened.define(COURSE.search)
    workers = [start() for _ in range(WORKERS)]
    seen = 0
    try:
        while any(worker.is_alive() for worker in workers):
            if time.monotonic() - started > LIMIT_SECONDS:
                raise RuntimeError(f"the search did not end in {LIMIT_SECONDS} s; {done} kills")
            lines = log.read_text().splitlines()
            # begun candidates; not the baseline, for which all would have to wait
            for line in lines[max(1, seen) :]:
                victim = next((w for w in workers if w.pid == int(line.split()[0])), None)
                if victim is None or done == kills or rng.random() < 0.3:
                    continue
                time.sleep(rng.uniform(0, 0.7 * TRIAL_SECONDS))
                victim.kill()
                victim.join()
                workers[workers.index(victim)] = start()
                done += victim.exitcode == -signal.SIGKILL
            seen = len(lines)
            time.sleep(0.01)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    assert [worker.exitcode for worker in workers] == [0] * WORKERS
    return done


def check(url: str, log: Path, kills: int) -> None:
    """Require that every slot was settled once, and no candidate trained to its end twice."""
    with Ledger(url, toy.SEARCH.name, **LIVELY) as opened:
        found = toy.outline(opened, COURSE)
        slots: Counter[tuple[str, int]] = Counter()
        for stage in opened.stages():
            trials = opened.trials(stage)
            assert all(trial.state.is_finished() for trial in trials)
            for slot in opened.slots(stage):
                slots[stage, slot.index] = sum("record" in a.user_attrs for a in slot.attempts)
    undisturbed = reference()
    assert {row[:2] for row in found} == {row[:2] for row in undisturbed}
    assert all(state == "complete" for *_, state, _ in found)
    assert {slots[row[:2]] for row in found} == {1}
    # what follows from the slot alone is the same, whoever trained it and when
    fixed = [row for row in undisturbed if row[0] in ("baseline", "width") and row[1] < 4]
    assert [row for row in found if row[:2] in {f[:2] for f in fixed}] == fixed
    keys = [key for stage, _, key, *_ in found if stage not in ("baseline", "final")]
    assert len(set(keys)) == len(keys)
    begun = len(log.read_text().splitlines())
    assert begun <= len(found) + kills


def reference() -> list[tuple[str, int, str, str, float]]:
    """The outline of an undisturbed search."""
    with tempfile.TemporaryDirectory() as folder, toy.ledger(Path(folder)) as opened:
        toy.Worker(opened, COURSE, toy.Formula()).run()
        return toy.outline(opened, COURSE)


def postgres_missing() -> str | None:
    """Why no PostgreSQL server can be started here; None when one can."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg, the extra postgres, is not installed"
    return None if _postgres_bin() else "no PostgreSQL server is installed (make postgresql)"


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server of a test's own, and the URL of its database."""

    url: str
    start: Callable[[], None]
    stop: Callable[[], None]


@contextmanager
def postgres() -> Iterator[Server]:
    """Run a PostgreSQL server on a socket in a temporary folder."""
    programs = _postgres_bin()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    # the server refuses to be run by root
    user = "nobody" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, "-D", folder / "data", *arguments],
            check=True,
            user=user,
            cwd=folder,
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    try:
        run("initdb", "-A", "trust", "-U", "search")
        options = f"-k {folder} -c listen_addresses=''"
        server = Server(
            f"postgresql://search@/postgres?host={folder}",
            lambda: run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start"),
            lambda: run("pg_ctl", "-w", "-m", "immediate", "stop"),
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _postgres_bin() -> Path | None:
    # Debian keeps the server's programs off the PATH
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path))
    return found[0].parent if found else None


def main() -> None:
    """Kill workers of a search on SQLite, or on a database of one's own."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url", help="a database with no search in it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        url = given.url or sqlite_url(Path(folder))
        started = time.monotonic()
        done = disturb(url, log, given.kills, given.seed)
        check(url, log, done)
    print(f"{done} kills, all slots settled once, {time.monotonic() - started:.0f} s")  # noqa: T201


if __name__ == "__main__":
    main()

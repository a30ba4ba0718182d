"""The worker processes of `dnc-search run`: who is killed is replaced, but not for ever."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from pathlib import Path

import pytest
import torch

from dnc_search.cli import crew
from dnc_search.cli.crew import Crew
from dnc_sparse import machine
from search import toy


def idle(folder: str, *_: object) -> None:
    """Stand in for a worker: say who one is, and wait to be ended."""
    Path(folder, str(os.getpid())).touch()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(60)


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crew:
    monkeypatch.setattr(crew, "_work", idle)
    monkeypatch.setattr(crew, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(crew, "DEATHS", 1)
    with toy.ledger(tmp_path) as ledger:
        team = Crew(ledger, out=tmp_path, data_dir=None, jobs=1, threads=1)
    team._arguments = (str(tmp_path / "begun"), *team._arguments[1:])
    (tmp_path / "begun").mkdir()
    return team


def killed(team: Crew, begun: Path, before: set[str]) -> set[str]:
    """Kill the worker that has begun since, and return all that have."""
    deadline = time.monotonic() + 60
    while not (new := {file.name for file in begun.iterdir()} - before):
        assert time.monotonic() < deadline
        assert team.is_working()
    os.kill(int(*new), signal.SIGKILL)
    return before | new


def test_a_killed_worker_is_replaced_until_it_is_too_often(
    team: Crew, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with team:
        first = killed(team, tmp_path / "begun", set())
        killed(team, tmp_path / "begun", first)
        said = capsys.readouterr().err
        assert "a worker was killed by SIGKILL; another takes its place" in said
        with pytest.raises(RuntimeError, match=r"^2 workers were killed, the last by SIGKILL; if"):
            deque(iter(team.is_working, False), maxlen=0)


@pytest.mark.parametrize(("jobs", "given", "threads"), [(1, None, None), (2, None, 2), (2, 3, 3)])
def test_workers_share_the_cores_unless_told(
    jobs: int,
    given: int | None,
    threads: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(machine, "cores", lambda: 6)
    with toy.ledger(tmp_path) as ledger:
        team = Crew(ledger, out=tmp_path, data_dir=None, jobs=jobs, threads=given)
        assert team._arguments[-1] == threads
        with pytest.warns(UserWarning, match=r"^8 threads on 6 cores wait for each other; --thr"):
            Crew(ledger, out=tmp_path, data_dir=None, jobs=2, threads=4)

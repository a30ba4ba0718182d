"""More threads than free cores are warned of, where that makes everything slow."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from sparse.small_runs import code

from dnc_sparse import machine
from dnc_sparse.cli import options


@pytest.fixture(autouse=True)
def threads_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, and torch's threads as they were."""
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)


def busy(monkeypatch: pytest.MonkeyPatch, cores: float) -> None:
    monkeypatch.setattr(machine, "busy_cores", lambda: cores)


@pytest.mark.parametrize(
    ("threads", "others", "text"),
    [
        (9, 0.0, r"^9 threads on 8 cores wait for each other; --threads 8 is faster$"),
        (64, 8.0, r"^64 threads on 8 cores wait for each other; --threads 8 is faster$"),
        (8, 1.0, r"^other work keeps 1.0 of 8 cores busy: 8 threads wait .* give --threads 7$"),
        (4, 6.2, r"^other work keeps 6.2 of 8 cores busy: 4 threads wait .* give --threads 2$"),
        (2, 8.0, r"^other work keeps 8.0 of 8 cores busy: 2 threads wait .* give --threads 1$"),
    ],
)
def test_warned_of(monkeypatch: pytest.MonkeyPatch, threads: int, others: float, text: str) -> None:
    busy(monkeypatch, others)
    with pytest.warns(UserWarning, match=text):
        options.warn_of_threads(threads)


@pytest.mark.parametrize(("threads", "others"), [(8, 0.3), (4, 4.0), (2, 6.1), (1, 8.0)])
def test_not_warned_of(monkeypatch: pytest.MonkeyPatch, threads: int, others: float) -> None:
    busy(monkeypatch, others)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options.warn_of_threads(threads)


def test_jobs_have_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    busy(monkeypatch, 8.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert options.set_threads(None, jobs=3) == 4
    with pytest.warns(UserWarning, match=r"^other work keeps 8.0 of 8 cores busy: 4 threads"):
        options.set_threads(None)


def test_commands_warn_once(
    data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    busy(monkeypatch, 7.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert code("train", "--data", data, "--layers", "16,4", "--epochs", "1", "--quiet") == 0
    assert capsys.readouterr().err == (
        "warning: other work keeps 7.0 of 8 cores busy: 2 threads wait for each other, 10 to 100 "
        "times slower; stop that work, or give --threads 1\n"
    )


def test_busy_cores_are_read_from_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of cores 0 and 2, one works for 3 ticks of 4, one waits for disks; core 1 is not ours."""
    monkeypatch.undo()
    stat = tmp_path / "stat"
    stat.write_text(
        "cpu  9 9 9 9 9 0 0 0 0 0\n"
        "cpu0 10 20 30 400 50 1 2 3 9 9\n"
        "cpu1 10 20 30 400 50 1 2 3 9 9\n"
        "cpu2 10 20 30 400 50 1 2 3 9 9\n"
        "intr 5 6\n"
    )
    after = (
        "cpu0 11 20 31 401 50 1 2 4 99 99\n"
        "cpu1 99 20 31 401 50 1 2 4 99 99\n"
        "cpu2 10 20 30 400 54 1 2 3 9 9\n"
    )
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 2})
    monkeypatch.setattr(machine.time, "sleep", lambda _: stat.write_text(after))
    assert machine.busy_cores() == 0.75
    monkeypatch.setattr(machine, "PROC", tmp_path / "none")
    assert machine.busy_cores() == 0.0

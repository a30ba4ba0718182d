"""Calls in fresh processes: results, errors, deaths, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dnc_sparse import machine, processes


def square(x: int) -> tuple[int, int]:
    return x * x, os.getpid()


def environment(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]


def refuse(error: Exception) -> None:
    raise error


def send_a_lock(_: int) -> object:
    return threading.Lock()


def end(how: str) -> None:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))


def wait_for(folder: Path, name: str, seconds: float) -> str:
    """Say that the call runs, then work without looking at signals' handlers."""
    (folder / name).write_text(str(os.getpid()))
    time.sleep(seconds)
    return name


def deaf(folder: Path, name: str, seconds: float) -> str:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return wait_for(folder, name, seconds)


def tell_twice(x: int) -> int:
    processes.tell(("half", x))
    processes.tell(("whole", x))
    return x


class Unpicklable(Exception):
    """Has no arguments to be made from again."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def collect(function: Any, calls: list[tuple[Any, ...]], jobs: int = 1, **more: Any) -> list[Any]:
    with closing(processes.results(function, calls, jobs, **more)) as found:
        return list(found)


def running(folder: Path) -> list[int]:
    """Which of the processes that wrote their numbers into the folder still run."""
    alive = []
    for path in folder.iterdir():
        number = int(path.read_text() or 0)
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            continue
        alive.append(number)
    return alive


def children(group: int) -> list[int]:
    """The processes of a group, the group's first one apart."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == group and state != "Z" and int(path.parent.name) != group:
            found.append(int(path.parent.name))
    return found


def wait_until(is_so: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_call_has_a_process_of_its_own(jobs: int) -> None:
    found = collect(square, [(2,), (3,), (4,)], jobs)
    assert {index: value for index, (value, _) in found} == {0: 4, 1: 9, 2: 16}
    assert len({os.getpid(), *(number for _, (_, number) in found)}) == 4
    # one at a time keeps the order
    assert jobs > 1 or [index for index, _ in found] == [0, 1, 2]
    assert collect(square, [], jobs) == []


def test_no_more_than_jobs_run_and_the_rest_is_not_begun(tmp_path: Path) -> None:
    calls = [(tmp_path, str(n), 0.0 if n < 1 else 60) for n in range(5)]
    with closing(processes.results(wait_for, calls, 2)) as found:
        assert next(found) == (0, "0")
        # the third call is begun when the first result has been taken
        assert {path.name for path in tmp_path.iterdir()} <= {"0", "1"}
        wait_until((tmp_path / "1").exists)
        began = time.monotonic()
    # the calls take a minute
    assert time.monotonic() - began < 15
    assert running(tmp_path) == []
    assert not (tmp_path / "3").exists()


def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with closing(
        processes.results(deaf, [(tmp_path, "0", 0.0), (tmp_path, "1", 60.0)], 2)
    ) as found:
        assert next(found) == (0, "0")
        wait_until((tmp_path / "1").exists)
        began = time.monotonic()
    assert time.monotonic() - began < 15
    assert running(tmp_path) == []


@pytest.mark.parametrize(
    "error", [ValueError("7 is odd; give an even one"), FileNotFoundError(2, "nothing", "x.npz")]
)
def test_errors_come_through_with_their_place(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        collect(refuse, [(error,)])
    assert str(caught.value) == str(error)
    assert isinstance(caught.value.__cause__, processes.InChild)
    assert "in refuse\n    raise error\n" in str(caught.value.__cause__)


def refuse_unpicklable(one: int, other: int) -> None:
    raise Unpicklable(one, other)


def test_errors_and_results_that_cannot_be_sent() -> None:
    with pytest.raises(RuntimeError, match=r"^Unpicklable: 1 and 2$"):
        collect(refuse_unpicklable, [(1, 2)])
    with pytest.raises(TypeError, match=r"^cannot pickle '_thread.lock' object$"):
        collect(send_a_lock, [(1,)])


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("SIGKILL", "was ended by SIGKILL, perhaps for want of memory"),
        ("SIGSEGV", "was ended by SIGSEGV, perhaps for want of memory"),
        ("exit", "ended with exit code 3 and without a result; what it printed says why"),
    ],
)
def test_a_child_that_dies(how: str, text: str) -> None:
    with pytest.raises(RuntimeError, match=rf"^the process of a run {text}; try --jobs 1$"):
        collect(end, [(how,)], advice="; try --jobs 1")


def test_a_child_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("multiprocessing.popen_spawn_posix.Popen._launch", full)
    message = r"^the process of a run could not start: Resource temporarily unavailable; wait$"
    with pytest.raises(RuntimeError, match=message):
        collect(square, [(1,)], advice="; wait")


def test_what_calls_tell_is_heard() -> None:
    heard: list[tuple[int, tuple[str, int]]] = []
    found = collect(tell_twice, [(5,), (6,)], hear=lambda index, told: heard.append((index, told)))
    assert found == [(0, 5), (1, 6)]
    assert heard == [(0, ("half", 5)), (0, ("whole", 5)), (1, ("half", 6)), (1, ("whole", 6))]
    # a call in this process has nobody to tell
    assert tell_twice(7) == 7


@pytest.mark.parametrize(("busy", "expected"), [(0.9, ["passive", "0"]), (0.1, [None, None])])
def test_children_on_a_busy_machine_wait_without_spinning(
    monkeypatch: pytest.MonkeyPatch, busy: float, expected: list[str | None]
) -> None:
    monkeypatch.setattr(machine, "busy_cores", lambda: busy)
    names = list(processes.PASSIVE)
    for name in names:
        monkeypatch.delenv(name, raising=False)
    assert collect(environment, [tuple(names)]) == [(0, expected)]
    assert environment(*names) == [None, None]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("OMP_WAIT_POLICY", "active", ["active", None]), ("GOMP_SPINCOUNT", "50", [None, "50"])],
)
def test_what_the_user_has_set_stays(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: list[str | None]
) -> None:
    monkeypatch.setattr(machine, "busy_cores", lambda: 2.0)
    for each in processes.PASSIVE:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, value)
    assert collect(environment, [tuple(processes.PASSIVE)]) == [(0, expected)]


SCRIPT = """
import sys
from contextlib import closing
from pathlib import Path
from dnc_sparse import processes
from sparse.test_processes import wait_for

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    calls = [(folder, str(n), 60.0) for n in range(4)]
    with closing(processes.results(wait_for, calls, 2)) as found:
        for each in found:
            print(each)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_parent(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C as a terminal sends it, to all processes; the others to the parent alone."""
    script, marks = tmp_path / "script.py", tmp_path / "marks"
    script.write_text(SCRIPT)
    marks.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(marks)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(running(marks)) == 2)
    began = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)
    else:
        parent.send_signal(number)
    out, errors = parent.communicate(timeout=30)
    wait_until(lambda: running(marks) == [])
    assert time.monotonic() - began < 15
    assert parent.returncode == -number
    assert sorted(path.name for path in marks.iterdir()) == ["0", "1"]
    assert out == ""
    # one traceback: that of the parent
    assert errors.count("Traceback") == (number == signal.SIGINT)


def test_ctrl_c_while_children_start(tmp_path: Path) -> None:
    """Python that is still starting would end with a fatal error and a traceback of its own."""
    script, marks = tmp_path / "script.py", tmp_path / "marks"
    script.write_text(SCRIPT)
    marks.mkdir()
    for wait_s in (0.0, 0.1):
        parent = subprocess.Popen(
            [sys.executable, str(script), str(marks)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        # the tracker of resources and the first child
        wait_until(lambda group=parent.pid: len(children(group)) >= 2)
        time.sleep(wait_s)
        os.killpg(parent.pid, signal.SIGINT)
        _, errors = parent.communicate(timeout=30)
        assert errors.count("Traceback") == 1
        assert errors.endswith("KeyboardInterrupt\n")
        assert "Fatal" not in errors
        # the tracker of resources ends a moment after its parent; a call takes a minute
        wait_until(lambda group=parent.pid: children(group) == [])

"""Calls in processes of their own: each fresh, never more than asked for, none left behind.

| name   | meaning                                                                        |
|--------|--------------------------------------------------------------------------------|
| call   | the arguments of one call of the function                                      |
| child  | the spawned process that makes one call and ends                               |
| result | what the function returned; it and what `tell` sends come through a pipe       |

An executor of the standard library has one call more in its queue than it has processes. That one
cannot be cancelled: after Ctrl-C it would start and train to its end.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from dnc_sparse import machine

R = TypeVar("R")

# a child that has not ended this long after it was asked to is killed
GRACE_SECONDS = 1.0
# threads that wait for each other by spinning take the cores that the others need
PASSIVE = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
# from so many busy cores on; on a quiet machine spinning is the faster way to wait
BUSY_CORES = 0.5


class InChild(Exception):
    """The traceback of an error as it was in the child; the cause of the error raised here."""


@dataclass(frozen=True)
class _Child:
    index: int
    process: BaseProcess
    pipe: Connection


# in a child, where what it tells goes
_to_parent: Connection | None = None


def results(
    function: Callable[..., R],
    calls: Sequence[tuple[Any, ...]],
    jobs: int,
    *,
    advice: str = "",
    hear: Callable[[int, Any], None] = lambda index, told: None,
) -> Generator[tuple[int, R], None, None]:
    """Yield (index into `calls`, result) as calls end, each in a fresh process, `jobs` at a time.

    `hear` gets the index and each value that a running call gives to `tell`. After an error,
    Ctrl-C or `close` nothing more is started, and what runs is ended within two seconds; the
    children do not see Ctrl-C themselves. Use it within `contextlib.closing`: an error in the body
    of the loop alone closes nothing.

    Raises what a call raises; RuntimeError, with `advice` at its end, when a child dies or cannot
    start.
    """
    waiting = iter(enumerate(calls))
    running: dict[Connection, _Child] = {}
    try:
        for index, call in waiting:
            _start(running, index, (function, call), advice)
            while len(running) >= jobs:
                yield from _ended(running, hear, advice)
        while running:
            yield from _ended(running, hear, advice)
    finally:
        _end([child.process for child in running.values()])


def tell(value: Any) -> None:
    """Send a picklable value to the `hear` of the process that waits for this call's result.

    In a process that `results` did not start it does nothing.
    """
    if _to_parent is not None:
        _to_parent.send(("told", value))


@contextmanager
def passive_waiting() -> Iterator[None]:
    """Let processes started within wait for their OpenMP threads without spinning, if the machine
    is busy now.

    OpenMP reads the environment when torch is loaded, so this process stays as it is. What the
    user has set is left alone.
    """
    if not PASSIVE.keys().isdisjoint(os.environ) or machine.busy_cores() < BUSY_CORES:
        yield
        return
    os.environ.update(PASSIVE)
    try:
        yield
    finally:
        for name in PASSIVE:
            os.environ.pop(name, None)


def _start(running: dict[Connection, _Child], index: int, work: Any, advice: str) -> None:
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, *work))
    # it would unblock Ctrl-C while it starts, and the child after it would have it
    resource_tracker.ensure_running()
    # a child that has started must also be on the list of those to be ended
    with passive_waiting(), _interrupts_later():
        try:
            process.start()
        except OSError as error:
            ours.close()
            raise RuntimeError(
                f"the process of a run could not start: {error.strerror or error}{advice}"
            ) from error
        finally:
            theirs.close()
        running[ours] = _Child(index, process, ours)


def _ended(
    running: dict[Connection, _Child], hear: Callable[[int, Any], None], advice: str
) -> Iterator[tuple[int, Any]]:
    """Wait for whatever children say next, and yield the results that are among it."""
    for ready in connection.wait(list(running)):
        assert isinstance(ready, Connection)
        child = running[ready]
        try:
            kind, value = ready.recv()
        except EOFError:
            raise RuntimeError(_how_it_died(child.process) + advice) from None
        if kind == "told":
            hear(child.index, value)
            continue
        # what ran must be gone before the next one is measured
        child.process.join(GRACE_SECONDS)
        _end([child.process])
        del running[ready]
        ready.close()
        if kind == "error":
            error, text = value
            raise error from InChild(text)
        yield child.index, value


def _how_it_died(process: BaseProcess) -> str:
    process.join(GRACE_SECONDS)
    code = process.exitcode
    if code is not None and code < 0:
        how = f"was ended by {signal.Signals(-code).name}, perhaps for want of memory"
    else:
        how = f"ended with exit code {code} and without a result; what it printed says why"
    return f"the process of a run {how}"


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(GRACE_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold Ctrl-C back in this process, and for ever in processes that are started within.

    A terminal sends it to all its processes; a child that is still importing would end with a
    traceback, and one that trains would say so as its result.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    # a blocked signal stays blocked in a child, a handler does not stay
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _child(pipe: Connection, function: Callable[..., Any], call: tuple[Any, ...]) -> None:
    global _to_parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _to_parent = pipe
    try:
        answer = "result", function(*call)
        # what cannot be sent is an error of the call
        pickle.dumps(answer)
    except Exception as error:
        answer = "error", (_sendable(error), traceback.format_exc())
    # nobody listens when the parent was interrupted
    with suppress(BrokenPipeError):
        pipe.send(answer)


def _end_with_parent() -> None:
    # a parent that was killed could not end its children
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    """Return the error, or one with its text where it does not survive being pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error

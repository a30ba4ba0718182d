"""How a worker is stopped: at a safe moment, whenever the signal comes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """While entered, Ctrl-C and SIGTERM end what is `interruptible`, and wait for it elsewhere.

    A worker that another process started stops too when that process is gone. Outside the main
    thread, which alone gets signals, only `wanted` counts.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._interruptible = False
        self._before: dict[signal.Signals, Any] = {}
        parent = multiprocessing.parent_process()
        # other libraries' processes have a parent of this kind too, that cannot be waited for
        direct = parent is not None and parent.pid == os.getppid()
        self._parent = os.getppid() if direct else None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt when a stop is wanted."""
        if self.wanted or self._parent not in (None, os.getppid()):
            raise KeyboardInterrupt

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal raise KeyboardInterrupt in here, at once."""
        with self._set(True):
            yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep a signal waiting until this is done: a transaction must not be torn."""
        with self._set(False):
            yield

    @contextmanager
    def _set(self, interruptible: bool) -> Iterator[None]:
        before, self._interruptible = self._interruptible, interruptible
        try:
            if interruptible:
                self.check()
            yield
        finally:
            self._interruptible = before
        if before:
            self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        if self._interruptible:
            # once: what follows gives the trial back
            self._interruptible = False
            raise KeyboardInterrupt

"""The worker processes of `dnc-search run`."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from dnc_search.assembly import assemble
from dnc_search.cli.worker import defined
from dnc_search.ledger import Ledger
from dnc_search.stop import Stop
from dnc_search.worker import Worker
from dnc_sparse.cli import options, shell
from dnc_sparse.processes import passive_waiting

POLL_SECONDS = 0.5
# a worker that was killed is replaced, but not for ever
DEATHS = 10


class Crew:
    """Worker processes on this machine, which share its cores and end with it.

    Those that are killed are replaced: their candidates are tried again, and the ledger counts. On
    Ctrl-C and SIGTERM all give back what they train. Raises KeyboardInterrupt then, RuntimeError
    when workers keep being killed.
    """

    def __init__(
        self, ledger: Ledger, *, out: Path, data_dir: Path | None, jobs: int, threads: int | None
    ) -> None:
        if threads is None and jobs > 1:
            # workers that each use all cores wait for each other's threads, ten times as long
            threads = max(1, torch.get_num_threads() // jobs)
        each = threads or torch.get_num_threads()
        if each > 1:
            # those of one worker wait for each other
            options.warn_of_threads(jobs * each)
        self._arguments = (ledger.full_url, ledger.name, out, data_dir, threads)
        self._jobs, self._deaths = jobs, 0
        self._workers: list[BaseProcess] = []
        self._stop = Stop()

    def __enter__(self) -> Self:
        self._stop.__enter__()
        self._workers = [self._start() for _ in range(self._jobs)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._workers:
            process.terminate()
        for process in self._workers:
            process.join()
        self._stop.__exit__(kind, error, traceback)

    def is_working(self) -> bool:
        """Wait a moment, replace who was killed, and say whether anybody still works."""
        try:
            with self._stop.interruptible():
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "stopped; candidates in training were given back: run the same command to go on"
            ) from None
        for index, process in enumerate(self._workers):
            if process.exitcode is not None and process.exitcode < 0:
                self._replace(index, -process.exitcode)
        return any(process.is_alive() for process in self._workers)

    def _replace(self, index: int, number: int) -> None:
        self._deaths += 1
        reason = signal.Signals(number).name
        if self._deaths > DEATHS:
            raise RuntimeError(
                f"{self._deaths} workers were killed, the last by {reason}; if memory ran out, "
                f"lower --jobs or the limits of the space, and run the same command to go on"
            )
        shell.complain(f"a worker was killed by {reason}; another takes its place", "yellow")
        self._workers[index] = self._start()

    def _start(self) -> BaseProcess:
        process = multiprocessing.get_context("spawn").Process(target=_work, args=self._arguments)
        with _ignoring_interrupts(), passive_waiting():
            process.start()
        return process


def _work(url: str, name: str, folder: Path, data_dir: Path | None, threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with Ledger(url, name) as ledger:
            course, training = assemble(defined(ledger), folder=folder, data_dir=data_dir)
            Worker(ledger, course, training).run()
    except KeyboardInterrupt:
        sys.exit(130)
    except shell.EXPECTED as error:
        shell.complain(f"worker: {error}", "red")
        sys.exit(2)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    # what a process ignores its children ignore: Ctrl-C reaches all of a terminal's processes, and
    # one that is still importing would end with a traceback; the crew ends them by SIGTERM
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

"""What a person sees while a run goes on: a live bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

# the bar moves this often within an epoch; more would cost time and show nothing more
MOVES_PER_EPOCH = 20


class EpochLine(Protocol):
    """What is shown of an epoch."""

    @property
    def epoch(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def train_accuracy(self) -> float | None: ...
    @property
    def validation_error(self) -> float | None: ...
    @property
    def test_error(self) -> float | None: ...
    @property
    def seconds(self) -> float: ...


class Moving(Protocol):
    """What rich draws again and again between its start and its stop."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


class LiveBlock:
    """Something that moves on a terminal while the block of a `with` runs, where there is one."""

    _bar: Moving | None = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class Display(LiveBlock):
    """Shows the epochs of one run on standard error; nothing at all when not `enabled`."""

    _bar: Progress | None = None

    def __init__(
        self, epochs: int, steps: int, done: int, *, enabled: bool, title: str = ""
    ) -> None:
        self._console = Console(stderr=True, markup=False)
        self._enabled = enabled
        self._epochs, self._title = epochs, title
        self._every = max(1, steps // MOVES_PER_EPOCH)
        if enabled and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[figures]}", markup=False),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(
                self._head(done), total=epochs * steps, completed=done * steps, figures=""
            )

    def step(self, number: int, steps: int) -> None:
        """Say that step `number` (from 0) of this epoch's `steps` is done."""
        if self._bar is not None and ((number + 1) % self._every == 0 or number + 1 == steps):
            self._bar.advance(self._task, number % self._every + 1)

    def epoch(self, row: EpochLine) -> None:
        """Say that an epoch is done."""
        figures = _figures(row)
        if self._bar is not None:
            self._bar.update(self._task, description=self._head(row.epoch), figures=figures)
        elif self._enabled:
            line = f"{self._head(row.epoch)}  {figures}  {row.seconds:.2f} s"
            self._console.print(line, highlight=False)

    def _head(self, epoch: int) -> str:
        title = f"{self._title}  " if self._title else ""
        return f"{title}epoch {epoch}/{self._epochs}"


class RunBars(LiveBlock):
    """Bars of all runs and of those that are going on, on standard error where it is a terminal.

    Runs are known by their titles; all have as many epochs. Elsewhere, and when not `enabled`,
    nothing is shown.
    """

    def __init__(self, runs: int, epochs: int, *, enabled: bool) -> None:
        console = Console(stderr=True, markup=False)
        self._runs, self._epochs = runs, epochs
        # epochs done of each run that is going on
        self._running: dict[str, int] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bar: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and console.is_terminal),
            # lines for a file must not go to the terminal instead
            redirect_stdout=sys.stdout.isatty(),
            transient=True,
        )

    def epoch(self, title: str, number: int, done: int) -> None:
        """Say that a run has done this many epochs, while `done` runs are done."""
        self._running[title] = number
        self._update("all", f"{done} of {self._runs} runs done", self._runs, done)
        self._update(title, f"{title}  epoch {number}/{self._epochs}", 1, 0)

    def ended(self, title: str, done: int) -> None:
        """Say that a run is done, the `done`th."""
        self._running.pop(title, None)
        if title in self._tasks:
            self._bar.remove_task(self._tasks.pop(title))
        self._update("all", f"{done} of {self._runs} runs done", self._runs, done)

    def _update(self, title: str, text: str, runs: int, done: int) -> None:
        partial = sum(self._running.values()) if title == "all" else self._running[title]
        completed = done * self._epochs + partial
        if title in self._tasks:
            self._bar.update(self._tasks[title], completed=completed, description=text)
            return
        # what was done before says nothing about the speed of what is left
        self._tasks[title] = self._bar.add_task(
            text, total=runs * self._epochs, completed=completed
        )


def _figures(row: EpochLine) -> str:
    """Return the loss and accuracies, or errors in regression; validation where not tested."""
    split, error = "test", row.test_error
    if error is None:
        split, error = "validation", row.validation_error
    if row.train_accuracy is None:
        trained = f"squared error {row.loss:.4g}"
        held_out = "" if error is None else f"  {split} error {100 * error:.2f} % of variance"
    else:
        trained = f"loss {row.loss:.4f}  train {100 * row.train_accuracy:.2f} %"
        held_out = "" if error is None else f"  {split} {100 * (1 - error):.2f} %"
    return trained + held_out


class Steps(LiveBlock):
    """Shows how far a long work is, on standard error: a bar on a terminal, else a line a step."""

    _bar: Progress | None = None

    def __init__(self, title: str) -> None:
        self._console = Console(stderr=True, markup=False)
        self._title = title
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[what]}", markup=False),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(title, total=None, what="")

    def step(self, what: str, done: int, total: int) -> None:
        """Say that `what` is done, the `done`-th of `total` steps."""
        if self._bar is not None:
            text = f"{done}/{total}  {what}"
            self._bar.update(self._task, completed=done, total=total, what=text)
        else:
            self._console.print(f"{self._title} [{done}/{total}] {what}", highlight=False)

"""What a person sees while a run goes on: a live bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

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


class Display:
    """Shows the epochs of one run on standard error; nothing at all when not `enabled`."""

    def __init__(
        self, epochs: int, steps: int, done: int, *, enabled: bool, title: str = ""
    ) -> None:
        self._console = Console(stderr=True)
        self._enabled = enabled
        self._epochs, self._title = epochs, title
        self._every = max(1, steps // MOVES_PER_EPOCH)
        self._bar: Progress | None = None
        if enabled and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(
                self._head(done), total=epochs * steps, completed=done * steps, figures=""
            )

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


class Steps:
    """Shows how far a long work is, on standard error: a bar on a terminal, else a line a step."""

    def __init__(self, title: str) -> None:
        self._console = Console(stderr=True)
        self._title = title
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[what]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(title, total=None, what="")

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

    def step(self, what: str, done: int, total: int) -> None:
        """Say that `what` is done, the `done`-th of `total` steps."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, what=escape(what))
        else:
            self._console.print(
                f"{self._title} [{done}/{total}] {what}", highlight=False, markup=False
            )

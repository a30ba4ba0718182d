"""What a person sees while a search goes on: a bar and the best so far, or a line per candidate."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from dnc_search.cli.status import Summary, best_table, headline
from dnc_search.overview import Overview
from dnc_search.record import Record
from dnc_sparse.progress import LiveBlock

BAR_WIDTH = 60


class Screen(LiveBlock):
    """Shows overviews on standard error; nothing at all when not `enabled`."""

    _bar: Live | None = None

    def __init__(self, summary: Summary, *, enabled: bool) -> None:
        self._summary = summary
        self._console = Console(stderr=True, markup=False)
        self._lines = enabled and not self._console.is_terminal
        if enabled and self._console.is_terminal:
            self._bar = Live(console=self._console, refresh_per_second=2, transient=True)
        self._shown: set[tuple[str, int]] = set()

    def show(self, now: Overview) -> None:
        """Show how far the search is."""
        if self._bar is not None:
            bar = ProgressBar(total=max(1, now.slots), completed=now.done, width=BAR_WIDTH)
            table = [best_table(now, self._summary)] if now.best else []
            below = Table.grid()
            below.add_row(bar)
            below.add_row(headline(now))
            self._bar.update(Group(*table, below))
        elif self._lines:
            for record in now.records:
                if (record.stage, record.slot) not in self._shown:
                    self._shown.add((record.stage, record.slot))
                    self._console.print(self._line(record, now), highlight=False, soft_wrap=True)

    def _line(self, record: Record, now: Overview) -> str:
        budget = next(stage.budget for stage in now.stages if stage.name == record.stage)
        result = record.failure
        if result is None:
            figures = [("error", "error"), ("test_error", "test error")]
            known = [f"{n} {record.measures[k]:.4f}" for k, n in figures if k in record.measures]
            epochs = [f"{record.epochs} epochs"] if record.curve else []
            result = ", ".join([*known, *epochs, f"{record.seconds:.1f} s"])
        return (
            f"{record.stage} {record.slot + 1}/{budget}  {self._summary(record.config)}  "
            f"{record.state}: {result}"
        )

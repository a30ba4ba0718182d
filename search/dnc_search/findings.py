"""All that a search has found so far, whoever found it: what reports and exports are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dnc_search.record import Record
from dnc_search.score import score
from dnc_search.space import Shape, Space
from dnc_sparse.stats import mean_interval

FINAL = "final"


@dataclass(frozen=True)
class Winner:
    """The best candidate under one w_c, and what became of it in the final stage.

    `test_accuracy` is a fraction, the mean over the final runs, `half_width` that of its 95 %
    interval; both are None as long as there is no final run (half_width: fewer than two). For
    regression `test_error` takes its place.
    """

    w_c: float
    record: Record
    score: float
    finals: tuple[Record, ...]

    @property
    def test_error(self) -> float | None:
        """Mean test error over the final runs."""
        return self._test[0]

    @property
    def half_width(self) -> float | None:
        """Half-width of the 95 % interval of the mean test error."""
        return self._test[1]

    @property
    def _test(self) -> tuple[float | None, float | None]:
        errors = [r.measures["test_error"] for r in self.finals if "test_error" in r.measures]
        return mean_interval(errors) if errors else (None, None)


@dataclass(frozen=True)
class Findings:
    """The records of a search, in the order in which they ended, and what they are judged by.

    `about` says in a person's words how the search was set up, a line each. `records` holds the
    candidates of all stages but the final one, whose runs are `finals`. `baseline` are the measures
    of the space's largest network, `penalty` the shares of the complexities in f_c.
    """

    name: str
    about: Mapping[str, str]
    space: Space
    shape: Shape
    w_c: tuple[float, ...]
    penalty: Mapping[str, float]
    baseline: Mapping[str, float]
    records: Sequence[Record]
    finals: Sequence[Record] = ()

    @property
    def judged(self) -> list[Record]:
        """Candidates that were trained to their end."""
        return [record for record in self.records if record.state == "complete"]

    @property
    def epochs(self) -> int:
        """Epochs of training that the search took, final runs excluded."""
        return sum(record.epochs for record in self.records)

    def score(self, record: Record, w_c: float) -> float:
        """Return f of a candidate under this w_c."""
        return score(record.measures, self.baseline, w_c, self.penalty)

    def ranking(self, w_c: float) -> list[Record]:
        """Return the candidates trained to their end, the best under this w_c first."""
        return sorted(self.judged, key=lambda record: self.score(record, w_c))

    def winner(self, w_c: float) -> Winner:
        """Return the best candidate under this w_c, any w_c, with its final runs.

        Raises ValueError when no candidate was trained to its end.
        """
        ranking = self.ranking(w_c)
        if not ranking:
            failed = sum(record.state == "failed" for record in self.records)
            raise ValueError(
                f"search {self.name!r} has no finished candidate yet, of {len(self.records)} "
                f"begun ({failed} failed); let it run on: dnc-search run, or worker"
            )
        best = ranking[0]
        finals = tuple(record for record in self.finals if record.key == best.key)
        return Winner(w_c, best, self.score(best, w_c), finals)

"""All that a search has found so far, whoever found it: what reports and exports are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dnc_search.definition import Search
from dnc_search.record import Record
from dnc_search.score import judged_by, rescore, score
from dnc_search.space import Shape, Space
from dnc_sparse.stats import mean_interval


@dataclass(frozen=True)
class Winner:
    """The best candidate under one w_c, and its runs in the final stage, none as yet perhaps."""

    w_c: float
    record: Record
    score: float
    finals: tuple[Record, ...]

    @property
    def test_errors(self) -> list[float]:
        """The test error of each final run that did not fail."""
        return [run.measures["test_error"] for run in self.finals if run.state == "complete"]

    @property
    def test_error(self) -> float | None:
        """Mean test error over the final runs."""
        return mean_interval(self.test_errors)[0] if self.test_errors else None

    @property
    def half_width(self) -> float | None:
        """Half-width of the 95 % interval of the mean test error, None for fewer than two runs."""
        return mean_interval(self.test_errors)[1] if self.test_errors else None


@dataclass(frozen=True)
class Findings:
    """The records of a search, in the order of its stages and their slots, and its judges.

    `records` holds the candidates of the space's own stages, `finals` the runs of the final one,
    `baseline` the measures of the space's largest network.
    """

    search: Search
    space: Space
    shape: Shape
    baseline: Mapping[str, float]
    records: Sequence[Record]
    finals: Sequence[Record] = ()

    @property
    def able(self) -> list[Record]:
        """Candidates that did not fail."""
        return [record for record in self.records if record.state != "failed"]

    @property
    def epochs(self) -> int:
        """Epochs of training that the candidates took, final runs excluded."""
        return sum(record.epochs for record in self.records)

    def score(self, record: Record, w_c: float) -> float:
        """Return f of a candidate under this w_c; one that failed costs what the baseline does."""
        return score(judged_by(record, self.baseline), self.baseline, w_c, self.search.penalty)

    def ranking(self, w_c: float) -> list[Record]:
        """Return the candidates that did not fail, the best under this w_c first."""
        ranked = rescore(self.able, self.baseline, w_c, self.search.penalty)
        return [each.record for each in ranked]

    def winner(self, w_c: float) -> Winner:
        """Return the best candidate under any w_c, with its final runs.

        Raises ValueError when no candidate is finished.
        """
        ranking = self.ranking(w_c)
        if not ranking:
            raise ValueError(
                f"the search {self.search.name!r} has no candidate yet that was trained, and "
                f"{len(self.records)} that failed; let it go on, or see why they failed "
                f"(dnc-search status)"
            )
        best = ranking[0]
        finals = tuple(run for run in self.finals if run.key == best.key)
        return Winner(w_c, best, self.score(best, w_c), finals)

    def winners(self) -> dict[str, list[Winner]]:
        """Return the winners under the search's own w_c, those of one configuration together."""
        found: dict[str, list[Winner]] = {}
        for w_c in self.search.w_c:
            winner = self.winner(w_c)
            found.setdefault(winner.record.key, []).append(winner)
        return found

    def network(self, record: Record) -> str:
        """Return one line that says what a candidate is."""
        return self.space.summary(record.config, self.shape)

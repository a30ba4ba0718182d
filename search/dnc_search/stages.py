"""What the records of a search decide: which candidate a slot trains, and who leads.

Nothing here reads a clock, a file or the ledger, so all workers come to the same decisions.

| name      | meaning                                                              |
|-----------|----------------------------------------------------------------------|
| history   | the records of the stages before this one, all of them settled       |
| known     | the records of this stage so far                                     |
| pending   | the configurations being trained in this stage                       |
| points    | of these, the points of the unit cube they were decoded from         |
| incumbent | the candidate with the lowest loss under a w_c, the first where equal |
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dnc_search.definition import Search
from dnc_search.filtering import PROPOSALS, proposals
from dnc_search.kernel import Component
from dnc_search.parameters import Config, Parameter, Value
from dnc_search.record import Record, config_key
from dnc_search.sampler import SAMPLERS, Request
from dnc_search.score import judged_by
from dnc_search.space import Bayesian, Grid, Stage

BASELINE, FINAL = "baseline", "final"

# f of raw measures, those of the baseline, and w_c
Score = Callable[[Mapping[str, float], Mapping[str, float], float], float]


# what a filter goes by, higher is better: of a configuration and the seed it is trained with
Promise = Callable[[Config, int], float | None]
# configurations with their points
Points = Sequence[tuple[Config, Sequence[float]]]


class SearchFailed(RuntimeError):
    """Nothing that was tried can be trained, so the search cannot go on."""


@dataclass(frozen=True)
class Candidate:
    """A configuration to train, and the point it was decoded from where its sampler keeps that.

    `promises` are those of all that a filter chose it from, in the order they were proposed.
    """

    config: Config
    point: tuple[float, ...] | None = None
    promises: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Course:
    """The stages of a search in their order: the baseline, those of its space, the final runs.

    `complete` adds the presets to a configuration, `largest` is the network that the complexities
    are relative to. With a `promise` the first stage trains the most promising of a few proposals.
    Raises ValueError for stages that cannot follow each other so.
    """

    search: Search
    stages: tuple[Stage, ...]
    complete: Callable[[Config], dict[str, Value]]
    largest: Config
    score: Score
    promise: Promise | None = None

    def __post_init__(self) -> None:
        names = [BASELINE, *(stage.name for stage in self.stages), FINAL]
        if len(set(names)) < len(names):
            raise ValueError(f"two stages have one name: {', '.join(names)}; rename one of them")
        begins = Grid if self.search.start else Bayesian
        if not self.stages or not isinstance(self.stages[0], begins):
            raise ValueError(
                "the first stage must propose networks, a grid has none to change yet; "
                f"got {', '.join(names[1:-1]) or 'no stage'}"
            )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the stages, first to last."""
        return (BASELINE, *(stage.name for stage in self.stages), FINAL)

    def budget(self, name: str, history: Sequence[Record]) -> int:
        """Return how many slots a stage has."""
        if name == BASELINE:
            return 1
        if name == FINAL:
            return len(self._winners(history)) * self.search.final_seeds
        match self._stage(name):
            case Bayesian() as stage:
                return self._initial(stage) + self._steps(stage)
            case Grid() as stage:
                return len(self._grid(stage, history))

    def choose(
        self,
        name: str,
        slot: int,
        history: Sequence[Record],
        known: Sequence[Record],
        pending: Sequence[Config],
        points: Points = (),
    ) -> Candidate:
        """Return the candidate of a slot.

        Raises SpaceExhausted where a stage has no candidate left that is new, SearchFailed where
        none of those before it could be trained.
        """
        if name == BASELINE:
            return Candidate(self.largest)
        if name == FINAL:
            return Candidate(self._winners(history)[slot // self.search.final_seeds])
        match self._stage(name):
            case Bayesian() as stage:
                return self._propose(stage, slot, history, known, pending, points)
            case Grid() as stage:
                return Candidate(self._grid(stage, history)[slot])

    def seed(self, name: str, slot: int) -> int:
        """Return the seed that a slot's candidate is trained with."""
        if name == FINAL:
            # the same seeds for every winner
            slot %= self.search.final_seeds
        return self._seed(name, slot, 1)

    def parameters(self, name: str) -> tuple[Parameter, ...]:
        """Return the parameters that a stage proposes values of."""
        stage = next((stage for stage in self.stages if stage.name == name), None)
        return stage.parameters if isinstance(stage, Bayesian) else ()

    def loss(self, record: Record, history: Sequence[Record], w_c: float) -> float:
        """Return f of a record; one that failed costs what the largest network does, all wrong.

        Raises SearchFailed when the baseline failed.
        """
        return self.loss_of(judged_by(record, baseline_of(history)), history, w_c)

    def loss_of(
        self, measures: Mapping[str, float], history: Sequence[Record], w_c: float
    ) -> float:
        """Return f of raw measures."""
        return self.score(measures, baseline_of(history), w_c)

    def highest_useful_error(
        self, counted: Mapping[str, float], records: Sequence[Record]
    ) -> float:
        """Return the error below which a candidate of known complexity leads under some w_c."""
        if all(record.stage == BASELINE or record.state == "failed" for record in records):
            return math.inf
        limits = []
        for w_c, incumbent in self.incumbents(records).items():
            # f = log10(error + w_c * f_c), so an error of 1 shows what the rest is
            penalty = 10 ** self.loss_of({**counted, "error": 1.0}, records, w_c) - 1
            limits.append(10 ** self.loss(incumbent, records, w_c) - penalty)
        return max(limits)

    def incumbent(self, history: Sequence[Record], w_c: float) -> Record:
        """Return the best candidate under a w_c; a later one must be strictly better.

        Raises SearchFailed when every candidate failed.
        """
        candidates = [record for record in history if record.stage not in (BASELINE, FINAL)]
        able = [record for record in candidates if record.state != "failed"]
        if not candidates:
            raise SearchFailed("no candidate has been trained yet")
        if not able:
            raise SearchFailed(
                f"all {len(candidates)} candidates failed, the first because "
                f"{candidates[0].failure}; mend the space or the settings, and begin another search"
            )
        return min(able, key=lambda record: self.loss(record, history, w_c))

    def incumbents(self, history: Sequence[Record]) -> dict[float, Record]:
        """Return the incumbent of every w_c."""
        return {w_c: self.incumbent(history, w_c) for w_c in self.search.w_c}

    def _stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def _initial(self, stage: Bayesian) -> int:
        return stage.initial if self.search.initial is None else self.search.initial

    def _steps(self, stage: Bayesian) -> int:
        return stage.steps if self.search.steps is None else self.search.steps

    def _winners(self, history: Sequence[Record]) -> list[Config]:
        """Return the configurations of the incumbents, each once."""
        found = {record.key: record.config for record in self.incumbents(history).values()}
        return list(found.values())

    def _grid(self, stage: Grid, history: Sequence[Record]) -> list[Config]:
        """Return what a grid changes of each incumbent, without what is known already."""
        taken = {record.key for record in history if record.stage != BASELINE}
        points: dict[str, Config] = {}
        first = stage == self.stages[0]
        for base in [{}] if first else self._winners(history):
            for change in stage.changes(base):
                config = self.complete({**base, **change})
                key = config_key(config)
                if key not in taken:
                    points.setdefault(key, config)
        return list(points.values())

    def _propose(
        self,
        stage: Bayesian,
        slot: int,
        history: Sequence[Record],
        known: Sequence[Record],
        pending: Sequence[Config],
        points: Points,
    ) -> Candidate:
        first = stage == self.stages[0]
        bases: list[Config] = [{}] if first else self._winners(history)
        step = slot - self._initial(stage)
        w_c = self.search.w_c[step % len(self.search.w_c)]
        base = bases[slot % len(bases)]
        if step >= 0 and not first:
            base = self.incumbent(history, w_c).config
        if len(bases) > 1:
            # their architectures differ, and what suits one says something of the next
            stage = replace(stage, components=stage.components + self._architecture(stage))
        told = [r for r in (*history, *known) if r.stage != BASELINE]
        related = [r for r in told if any(_alike_outside(stage, r.config, base) for base in bases)]
        request = Request(
            stage=stage,
            base=base,
            observed=self._observed(stage, known if first else related, history, w_c),
            pending=[self._view(stage, config) for config in pending],
            avoid={config_key(self._view(stage, r.config)) for r in told},
            points={config_key(self._view(stage, config)): point for config, point in points},
            initial=slot if step < 0 else None,
            stage_seed=self._seed(stage.name),
            seed=self._seed(stage.name, slot, 0),
        )
        # later stages decide how a network is trained, of which a promise knows nothing
        several = proposals(
            SAMPLERS[self.search.sampler], request, PROPOSALS if first and self.promise else 1
        )
        candidates = [
            Candidate(self.complete(stage.place(base, choice.values)), choice.point)
            for choice in several
        ]
        return self._most_promising(candidates, self.seed(stage.name, slot))

    def _most_promising(self, candidates: Sequence[Candidate], seed: int) -> Candidate:
        """Return the candidate with the highest promise, the first where equal."""
        if self.promise is None or len(candidates) == 1:
            return candidates[0]
        promises = tuple(self.promise(candidate.config, seed) for candidate in candidates)
        known = [-math.inf if promise is None else promise for promise in promises]
        return replace(candidates[known.index(max(known))], promises=promises)

    def _observed(
        self, stage: Bayesian, records: Sequence[Record], history: Sequence[Record], w_c: float
    ) -> list[tuple[Config, float]]:
        """Return what a stage compares of each record, and its loss.

        Of one that failed it is the worst of the others: an outlier would hide how these differ.
        """
        losses = [self.loss(record, history, w_c) for record in records]
        able = [loss for r, loss in zip(records, losses, strict=True) if r.state != "failed"]
        worst = max(able, default=0.0)
        return [
            (self._view(stage, r.config), worst if r.state == "failed" else loss)
            for r, loss in zip(records, losses, strict=True)
        ]

    def _architecture(self, stage: Bayesian) -> tuple[Component, ...]:
        others = (s for s in self.stages if isinstance(s, Bayesian) and s.name != stage.name)
        return tuple(component for other in others for component in other.components)

    def _view(self, stage: Bayesian, config: Config) -> Config:
        """Return what a stage compares: in the first what it decides itself, later all of it.

        Presets that follow from what it decides are left out, as they are of what is proposed.
        """
        if stage.name != self.stages[0].name:
            return {name: value for name, value in config.items() if name not in stage.resets}
        mine = {parameter.name for parameter in stage.parameters}
        return {name: value for name, value in config.items() if name in mine}

    def _seed(self, name: str, *place: int) -> int:
        words = [self.search.seed, zlib.crc32(name.encode()), *place]
        # torch takes signed seeds
        return int(np.random.SeedSequence(words).generate_state(1, np.uint32)[0]) >> 1


def _alike_outside(stage: Bayesian, config: Config, base: Config) -> bool:
    """Whether two configurations differ at most in what the stage decides."""
    return stage.place(config, {}) == stage.place(base, {})


def baseline_of(history: Sequence[Record]) -> Mapping[str, float]:
    """Return the measures of the largest network. Raises SearchFailed where it has none."""
    baseline = next(record for record in history if record.stage == BASELINE)
    if baseline.state == "failed":
        raise SearchFailed(
            f"the largest network of the space, which complexities are relative to, cannot be "
            f"trained: {baseline.failure}; lower the limits of the space, or mend it, "
            f"and begin another search"
        )
    return baseline.measures

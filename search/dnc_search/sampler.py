"""Who proposes: the ramp kernel's Gaussian process, or one of Optuna's samplers in its place.

Within a search every sampler is a function of a `Request`; `RampSampler` is ours for anybody's
Optuna study.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from scipy.stats import qmc

from dnc_search import proposal
from dnc_search.parameters import Choice, Config, Integer, Parameter, Real, Value
from dnc_search.proposal import PATIENCE, SpaceExhausted
from dnc_search.record import config_key
from dnc_search.space import Bayesian

# an Optuna sampler that proposes what is known already is asked this often before points are drawn
# at random
ASKED = 10


@dataclass(frozen=True)
class Request:
    """What a sampler may know when it proposes a candidate.

    `initial` is the index in the initial design, None after it; `points` are the points of the
    unit cube that observed and pending configurations were decoded from, by their keys, where a
    sampler has left them. `stage_seed` is that of all requests of the stage, `seed` this one's.
    """

    stage: Bayesian
    base: Config
    observed: Sequence[tuple[Config, float]]
    pending: Sequence[Config]
    avoid: Collection[str]
    points: Mapping[str, Sequence[float]]
    initial: int | None
    stage_seed: int
    seed: int

    def is_new(self, values: Config) -> bool:
        """Whether nobody has tried these values, or is about to."""
        key = config_key(self.stage.place(self.base, values))
        return key not in self.avoid and key not in map(config_key, self.pending)


@dataclass(frozen=True)
class Proposal:
    """The values that a stage gives a candidate, and the point they were decoded from."""

    values: dict[str, Value]
    point: tuple[float, ...] | None = None


def ramp(request: Request) -> Proposal:
    """Propose by Gaussian process, after an initial design of Sobol points."""
    stage = request.stage
    if request.initial is not None:
        values = proposal.initial(stage, request.initial, request.stage_seed)
        if request.is_new(values):
            return Proposal(values)
    observed = request.observed if request.initial is None else ()
    return Proposal(
        proposal.propose(
            stage, request.base, observed, request.pending, request.seed, avoid=request.avoid
        )
    )


def random(request: Request) -> Proposal:
    """Propose at random, every point of the unit cube alike."""
    return _first_new(request, _random_points(request))


def optuna_sampler(make: Callable[[int], BaseSampler]) -> Callable[[Request], Proposal]:
    """Return a function that proposes as an Optuna sampler does, after the same initial design.

    `make` gives the sampler of a seed. It searches the unit cube from which the stage decodes
    networks, as most spaces cannot be said in independent parameters.
    """

    def propose(request: Request) -> Proposal:
        if request.initial is not None:
            sobol = qmc.Sobol(request.stage.dimensions, seed=request.stage_seed)
            design = sobol.random_base2(request.initial.bit_length())
            asked = iter([design[request.initial].tolist()])
        else:
            asked = (_ask(make(request.seed + attempt), request) for attempt in range(ASKED))

        def points() -> Iterator[Sequence[float]]:
            yield from asked
            yield from _random_points(request)

        return _first_new(request, points())

    return propose


# only what is needed to be repeatable differs from Optuna's defaults; its own start-up points would
# follow ours
SAMPLERS: Mapping[str, Callable[[Request], Proposal]] = {
    "ramp": ramp,
    "tpe": optuna_sampler(lambda seed: TPESampler(seed=seed, n_startup_trials=0)),
    "gp": optuna_sampler(lambda seed: GPSampler(seed=seed, n_startup_trials=0)),
    "random": random,
}


class RampSampler(BaseSampler):
    """Deep-n-Cheap's Gaussian process with the ramp kernel, for any Optuna study with one goal.

    `stage` says what is searched: its parameters, how they depend on each other and how candidates
    are compared. The objective asks the trial for the parameters of the stage that occur, with the
    ranges they have there; others are drawn at random. Failed trials are left out.

        stage = Mlp().stages[0]
        study = optuna.create_study(sampler=RampSampler(stage, seed=0))
        study.optimize(objective, n_trials=30)

    `base` has what components look at and the stage does not decide. Raises ValueError, when it is
    first asked, for a study with several goals.
    """

    def __init__(self, stage: Bayesian, *, base: Config | None = None, seed: int = 0) -> None:
        self._stage = stage
        self._base = {} if base is None else dict(base)
        self._seed = seed
        self._others = RandomSampler(seed=seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the ranges of the stage's parameters."""
        return {p.name: distribution(p) for p in self._stage.parameters}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the values of the parameters that occur in the next candidate."""
        if len(study.directions) > 1:
            raise ValueError(
                f"RampSampler minimises one figure, the study has {len(study.directions)}; "
                f"make a study with one direction"
            )
        sign = 1 if study.direction == StudyDirection.MINIMIZE else -1
        before = study.get_trials(deepcopy=False)
        done = [t for t in before if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        observed = [(self._placed(t), sign * t.value) for t in done if t.value is not None]
        pending = [self._placed(t) for t in before if t.state == TrialState.RUNNING and t.params]
        initial = trial.number if trial.number < self._stage.initial else None
        request = Request(
            stage=self._stage,
            base=self._base,
            observed=observed,
            pending=pending,
            avoid={config_key(config) for config, _ in observed},
            points={},
            initial=initial,
            stage_seed=self._seed,
            seed=self._seed + trial.number,
        )
        return ramp(request).values

    def _placed(self, trial: FrozenTrial) -> Config:
        mine = {parameter.name for parameter in self._stage.parameters}
        values = {name: value for name, value in trial.params.items() if name in mine}
        return self._stage.place(self._base, values)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a random value of a parameter that the stage does not know."""
        return self._others.sample_independent(study, trial, param_name, param_distribution)


def distribution(parameter: Parameter) -> BaseDistribution:
    """Return a parameter's range in Optuna's words."""
    match parameter:
        case Integer(_, low, high, log):
            return IntDistribution(low, high, log=log)
        case Real(_, low, high, log):
            return FloatDistribution(low, high, log=log)
        case Choice(_, options):
            return CategoricalDistribution(options)


def suggest(trial: Trial, parameter: Parameter) -> Value:
    """Ask an Optuna trial for a parameter, with the range it has."""
    match parameter:
        case Integer(name, low, high, log):
            return trial.suggest_int(name, low, high, log=log)
        case Real(name, low, high, log):
            return trial.suggest_float(name, low, high, log=log)
        case Choice(name, options):
            chosen = trial.suggest_categorical(name, options)
            # None is no option of ours
            assert chosen is not None
            return chosen


def _ask(sampler: BaseSampler, request: Request) -> list[float]:
    """Return what an Optuna sampler proposes after the observations that have points."""
    cube: dict[str, BaseDistribution] = {
        f"u{i}": FloatDistribution(0.0, 1.0) for i in range(request.stage.dimensions)
    }
    study = optuna.create_study(sampler=sampler)
    told: list[tuple[Config, float | None]] = [
        *request.observed,
        *((config, None) for config in request.pending),
    ]
    for config, loss in told:
        point = request.points.get(config_key(config))
        if point is not None:
            study.add_trial(
                optuna.create_trial(
                    state=TrialState.RUNNING if loss is None else TrialState.COMPLETE,
                    value=loss,
                    params=dict(zip(cube, point, strict=True)),
                    distributions=cube,
                )
            )
    return list(study.ask(cube).params.values())


def _random_points(request: Request) -> Iterator[Sequence[float]]:
    rng = np.random.default_rng(request.seed)
    for _ in range(PATIENCE):
        yield rng.random(request.stage.dimensions).tolist()


def _first_new(request: Request, points: Iterator[Sequence[float]]) -> Proposal:
    for point in points:
        values = request.stage.values(point)
        if request.is_new(values):
            return Proposal(values, tuple(point))
    raise SpaceExhausted(
        f"stage {request.stage.name} has nothing new to propose: {PATIENCE} points gave only "
        f"configurations known already; lower its steps or widen its ranges"
    )

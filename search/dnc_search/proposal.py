"""Which configuration to evaluate next.

| name     | meaning                                                             | shape        |
|----------|---------------------------------------------------------------------|--------------|
| point    | coordinates from which a stage decodes a candidate's values         | [dimensions] |
| values   | what a stage decides about a candidate: a part of its configuration | dict         |
| observed | configurations evaluated so far, each with its loss                 | [n]          |
| pending  | configurations whose evaluation is under way                        | [p]          |
| avoid    | keys (`config_key`) of configurations that must not be proposed     | set          |

Everything here is a pure function of its arguments. Initial designs are scrambled Sobol sequences
(A. B. Owen, 1998); proposals after them maximise expected improvement over candidates drawn in the
same way, as Deep-n-Cheap does (arXiv 2004.00974), then over the surroundings of the best of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy.stats import qmc

from dnc_search.acquisition import log_expected_improvement
from dnc_search.gp import GaussianProcess, Prior, condition, fit
from dnc_search.kernel import Array
from dnc_search.parameters import Config, Value
from dnc_search.record import config_key

if TYPE_CHECKING:
    # it needs torch, which this module does without
    from dnc_search.space import Bayesian

Point = list[float]
Fitted = Literal["no", "shared", "separate"]

# points drawn in vain before a space counts as exhausted
PATIENCE = 10_000
# a refinement draws so many around each of the best, moving so many coordinates on average
PARENTS, CHILDREN, MOVED = 10, 25, 3
# how far it moves them, round by round: standard deviation in the unit cube
REACHES = (0.1, 0.03)


class SpaceExhausted(RuntimeError):
    """A stage has no configuration left that was not evaluated or proposed already."""


@dataclass(frozen=True)
class Method:
    """How the next configuration is chosen; the defaults are what did best on our landscapes.

    `candidates` are drawn, then more around the best of them in each of `refinements` rounds.
    The Gaussian process has the hyperparameters of the components and `noise`, or those fitted to
    the losses: one factor on all omegas ("shared") or one on each ("separate"). `standardise`
    puts amplitude and noise in units of the variance of the losses. `margin` is what a loss must
    be lower by to count as an improvement.
    """

    candidates: int = 1000
    refinements: int = 2
    fitted: Fitted = "no"
    standardise: bool = True
    noise: float = 1e-4
    margin: float = 1e-4

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"a proposal needs at least 1 candidate, got {self.candidates}")
        if not 0 <= self.refinements <= len(REACHES):
            raise ValueError(f"refinements must be 0 to {len(REACHES)}, got {self.refinements}")
        if self.fitted not in get_args(Fitted):
            raise ValueError(f"fitted must be no, shared or separate, got {self.fitted!r}")
        if not self.margin >= 0:
            raise ValueError(f"the margin must be 0 or more, got {self.margin}")


# what Deep-n-Cheap does, with its mean mended (gp.py)
FAITHFUL = Method(refinements=0, standardise=False)


@dataclass(frozen=True)
class _Candidate:
    point: Point
    values: dict[str, Value]
    config: dict[str, Value]


def initial(stage: Bayesian, index: int, seed: int) -> dict[str, Value]:
    """Return the values of the `index`-th candidate of a stage's initial design, from 0 on.

    The same for the same seed, whatever was asked before; no two are alike. Raises SpaceExhausted
    where the stage has fewer candidates.
    """
    seen: set[str] = set()
    for point in islice(_sobol(stage.dimensions, seed), PATIENCE):
        values = stage.values(point)
        seen.add(config_key(values))
        if len(seen) > index:
            return values
    raise SpaceExhausted(
        f"stage {stage.name} has {len(seen)} different candidates among {PATIENCE} points, "
        f"too few for an initial design of {index + 1}; shorten it or widen the ranges"
    )


def propose(
    stage: Bayesian,
    base: Config,
    observed: Sequence[tuple[Config, float]],
    pending: Sequence[Config],
    seed: int,
    *,
    avoid: Collection[str] = (),
    method: Method = Method(),
) -> dict[str, Value]:
    """Return the values of the candidate that promises most, given what was seen so far.

    `base` is the configuration whose values stand where the stage decides nothing. What was
    observed, is pending or stands in `avoid` is never proposed again. With fewer than 2 losses
    to learn from it is a quasi-random candidate. Raises SpaceExhausted when none is left.
    """
    taken = {config_key(config) for config, _ in observed} | set(map(config_key, pending))
    taken.update(avoid)
    sobol = _sobol(stage.dimensions, seed)
    candidates: list[_Candidate] = []
    for _ in range(0, PATIENCE, method.candidates):
        candidates = _fresh(stage, base, islice(sobol, method.candidates), taken)
        if candidates:
            break
    else:
        raise SpaceExhausted(
            f"stage {stage.name} has nothing new to propose: {PATIENCE} points gave only the "
            f"{len(taken)} configurations known already; lower its steps or widen its ranges"
        )
    if len(observed) < 2:
        return candidates[0].values
    process = _process(stage, observed, method, seed).believe(pending)
    # the neighbours of a pending one that is believed to be best must be better still
    best = float(process.losses.min())
    scores = _scores(process, candidates, best, method)
    rng = np.random.default_rng(seed)
    for reach in REACHES[: method.refinements]:
        parents = [candidates[i] for i in np.argsort(-scores, kind="stable")[:PARENTS]]
        points = _around(parents, reach, rng)
        children = _fresh(stage, base, points, taken)
        candidates += children
        scores = np.append(scores, _scores(process, children, best, method))
    return candidates[int(np.argmax(scores))].values


def _sobol(dimensions: int, seed: int) -> Iterator[Point]:
    """Yield a scrambled Sobol sequence, point by point."""
    sequence = qmc.Sobol(dimensions, seed=seed)
    while True:
        yield from sequence.random(64).tolist()


def _fresh(
    stage: Bayesian, base: Config, points: Iterable[Point], taken: set[str]
) -> list[_Candidate]:
    """Return the candidates of the points that are not taken, and take them."""
    found = []
    for point in points:
        values = stage.values(point)
        config = stage.place(base, values)
        key = config_key(config)
        if key not in taken:
            taken.add(key)
            found.append(_Candidate(point, values, config))
    return found


def _around(parents: Sequence[_Candidate], reach: float, rng: np.random.Generator) -> list[Point]:
    """Return points that differ from a parent's in a few coordinates."""
    points = np.repeat([parent.point for parent in parents], CHILDREN, axis=0)
    moves = rng.normal(scale=reach, size=points.shape)
    moves *= rng.random(points.shape) < MOVED / points.shape[1]
    clipped: list[Point] = np.clip(points + moves, 0.0, 1.0).tolist()
    return clipped


def _process(
    stage: Bayesian, observed: Sequence[tuple[Config, float]], method: Method, seed: int
) -> GaussianProcess:
    configs, losses = [config for config, _ in observed], [loss for _, loss in observed]
    prior = Prior(stage.components, noise=method.noise, standardise=method.standardise)
    if method.fitted != "no":
        separate = method.fitted == "separate"
        prior = fit(prior, configs, losses, separate=separate, seed=seed)
    return condition(prior, configs, losses)


def _scores(
    process: GaussianProcess, candidates: Sequence[_Candidate], best: float, method: Method
) -> Array:
    mean, sd = process.predict([candidate.config for candidate in candidates])
    return log_expected_improvement(mean, sd, best, method.margin)

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
same way, as in Deep-n-Cheap (arXiv 2004.00974).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy.stats import qmc

from dnc_search.acquisition import log_expected_improvement
from dnc_search.gp import GaussianProcess, Prior, condition, fit
from dnc_search.parameters import Config, Value
from dnc_search.record import config_key

if TYPE_CHECKING:
    # it needs torch, which this module does without
    from dnc_search.space import Bayesian

Point = list[float]
Fitted = Literal["no", "shared", "separate"]

# points drawn in vain before a space counts as exhausted
PATIENCE = 10_000


class SpaceExhausted(RuntimeError):
    """A stage has no configuration left that was not evaluated or proposed already."""


@dataclass(frozen=True)
class Method:
    """How the next configuration is chosen; the defaults are what did best on our landscapes.

    So many `candidates` are drawn. The Gaussian process has the hyperparameters of the components
    and `noise`, or those fitted to the losses: one factor on all omegas ("shared") or one on each
    ("separate"). `standardise` puts amplitude and noise in units of the variance of the losses.
    `margin` is what a loss must be lower by to count as an improvement. Raises ValueError for a
    value out of range.
    """

    candidates: int = 1000
    fitted: Fitted = "separate"
    standardise: bool = True
    noise: float = 1e-4
    margin: float = 1e-4

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"a proposal needs at least 1 candidate, got {self.candidates}")
        if self.fitted not in get_args(Fitted):
            raise ValueError(f"fitted must be no, shared or separate, got {self.fitted!r}")
        if not self.margin >= 0:
            raise ValueError(f"the margin must be 0 or more, got {self.margin}")


# what Deep-n-Cheap does, with its mean mended (gp.py)
FAITHFUL = Method(fitted="no", standardise=False)


@dataclass(frozen=True)
class _Candidate:
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
    observed, is pending or stands in `avoid` is never proposed again. A candidate that failed has
    the loss inf and counts as the worst of the others, so that their differences stay visible.
    With fewer than 2 other losses to learn from it is a quasi-random candidate. Raises
    SpaceExhausted when none is left.
    """
    taken = {config_key(config) for config, _ in observed} | set(map(config_key, pending))
    taken.update(avoid)
    sobol = _sobol(stage.dimensions, seed)
    candidates = _fresh(stage, base, islice(sobol, method.candidates), taken)
    candidates = candidates or _fresh(stage, base, islice(sobol, PATIENCE), taken)
    if not candidates:
        raise SpaceExhausted(
            f"stage {stage.name} has nothing new to propose: {PATIENCE + method.candidates} points "
            f"gave only configurations that are among the {len(taken)} known already; "
            "lower its steps or widen its ranges"
        )
    if sum(loss < math.inf for _, loss in observed) < 2:
        return candidates[0].values
    process = _process(stage, observed, method, seed).believe(pending)
    # the neighbours of a pending one that is believed to be best must be better still
    best = float(process.losses.min())
    mean, sd = process.predict([candidate.config for candidate in candidates])
    scores = log_expected_improvement(mean, sd, best, method.margin)
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
            found.append(_Candidate(values, config))
    return found


def _process(
    stage: Bayesian, observed: Sequence[tuple[Config, float]], method: Method, seed: int
) -> GaussianProcess:
    worst = max(loss for _, loss in observed if loss < math.inf)
    configs, losses = [config for config, _ in observed], [min(loss, worst) for _, loss in observed]
    prior = Prior(stage.components, noise=method.noise, standardise=method.standardise)
    if method.fitted != "no":
        separate = method.fitted == "separate"
        prior = fit(prior, configs, losses, separate=separate, seed=seed)
    return condition(prior, configs, losses)

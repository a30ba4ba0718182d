"""A Gaussian process over configurations: what the losses seen so far say about the others.

| name   | meaning                                                            | shape  |
|--------|--------------------------------------------------------------------|--------|
| y      | losses seen, minus their mean, in units of `scale`                 | [n]    |
| scale  | standard deviation of the losses seen, or 1                        | 0-d    |
| K      | amplitude * kernel of the configurations seen + noise * identity   | [n, n] |
| L      | lower Cholesky factor of K                                         | [n, n] |
| alpha  | K^-1 y                                                             | [n]    |
| K_star | amplitude * kernel of the seen with the asked                      | [n, m] |
| theta  | logarithms of the factors that a fit puts on the values of a prior | [t]    |

Posterior, marginal likelihood and its gradient: C. E. Rasmussen, C. K. I. Williams, "Gaussian
Processes for Machine Learning", 2006, (2.25), (2.26), (2.30), (5.9). The prior mean is that of all
losses seen; Deep-n-Cheap's released code froze that of its first ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from dnc_search.kernel import Array, Component, gram, ramp, shares
from dnc_search.parameters import Config

# range of the factors that a fit may put on a prior, and how far from 1 they reasonably are:
# standard deviation of the logarithm. With small omegas the mean over the layers of nets of
# different depths stops being positive definite.
_OMEGA = ((1 / 3, 4.0), 0.75)
_AMPLITUDE = ((1e-3, 1e2), 1.0)
_NOISE = ((1.0, 1e4), 2.0)


@dataclass(frozen=True)
class Prior:
    """What is supposed of losses before any is seen.

    `components` hold the kernel's omegas and shares; `amplitude` is the variance of the losses and
    `noise` that of repeated evaluations. Both are in units of the variance of the losses seen where
    `standardise` says so, else plain; Deep-n-Cheap's are the plain 1 and 1e-4. Raises ValueError
    for variances that are not above 0.
    """

    components: tuple[Component, ...]
    amplitude: float = 1.0
    noise: float = 1e-4
    standardise: bool = True

    def __post_init__(self) -> None:
        for name, value in (("amplitude", self.amplitude), ("noise", self.noise)):
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"the {name} must be a variance above 0, got {value}")
        shares(self.components)


@dataclass(frozen=True)
class GaussianProcess:
    """A prior and what it makes of the losses seen; `condition` builds it."""

    prior: Prior
    configs: tuple[Config, ...]
    losses: Array
    mean: float
    scale: float
    factor: Array
    alpha: Array

    def predict(self, configs: Sequence[Config]) -> tuple[Array, Array]:
        """Return mean and standard deviation of each configuration's loss: [n] each.

        It is the loss without the noise of an evaluation.
        """
        cross = self.prior.amplitude * gram(self.prior.components, self.configs, configs)
        mean = self.mean + self.scale * (self.alpha @ cross)
        reduced = solve_triangular(self.factor, cross, lower=True)
        variance = self.prior.amplitude - np.einsum("nm,nm->m", reduced, reduced)
        return mean, self.scale * np.sqrt(np.maximum(variance, 0.0))

    def believe(self, configs: Sequence[Config]) -> GaussianProcess:
        """Return the process that has seen these configurations too, each with its own prediction.

        Their means stay, their uncertainty goes: so evaluations under way keep others from the same
        place (the kriging believer of D. Ginsbourger, R. Le Riche, L. Carraro, 2010).
        """
        if not configs:
            return self
        losses = np.concatenate([self.losses, self.predict(configs)[0]])
        return _condition(self.prior, (*self.configs, *configs), losses, self.mean, self.scale)

    def log_marginal_likelihood(self) -> float:
        """Return the logarithm of the density of the losses in units of `scale`."""
        y = (self.losses - self.mean) / self.scale
        log_determinant = 2 * np.log(np.diag(self.factor)).sum()
        return float(-0.5 * (y @ self.alpha + log_determinant + len(y) * np.log(2 * np.pi)))


def condition(
    prior: Prior, configs: Sequence[Config], losses: Sequence[float] | Array
) -> GaussianProcess:
    """Return what the prior makes of the losses of some configurations.

    Raises ValueError for no losses, losses that are not finite, and a different number of both.
    """
    values, mean, scale = _standardised(prior, configs, losses)
    return _condition(prior, tuple(configs), values, mean, scale)


def fit(
    prior: Prior,
    configs: Sequence[Config],
    losses: Sequence[float] | Array,
    *,
    separate: bool = True,
    restarts: int = 1,
    seed: int = 0,
) -> Prior:
    """Return the prior under which the losses are most probable, itself not too improbable.

    Fitted are each component's omega (unless `separate`, one factor on all of them), its amplitude,
    and the noise: maximum a posteriori, each log-normal about the given prior. The
    search starts there and at `restarts` random places. Raises ValueError as `condition` does.
    """
    values, mean, scale = _standardised(prior, configs, losses)
    evidence = _Evidence(prior, configs, (values - mean) / scale, separate)
    rng = np.random.default_rng(seed)
    center = np.zeros_like(evidence.spread)
    low, high = evidence.bounds.T
    starts = [center] + [
        np.clip(rng.normal(center, evidence.spread), low, high) for _ in range(restarts)
    ]
    results = [
        minimize(evidence, start, jac=True, method="L-BFGS-B", bounds=evidence.bounds)
        for start in starts
    ]
    return evidence.prior_of(min(results, key=lambda result: float(result.fun)).x)


class _Evidence:
    """The negative log posterior of theta and its gradient, to be made small."""

    def __init__(self, prior: Prior, configs: Sequence[Config], y: Array, separate: bool) -> None:
        self.prior = prior
        self.ramps = [ramp(component, configs, configs) for component in prior.components]
        self.y = y
        self.n_omegas = len(self.ramps) if separate else 1
        rules = [_OMEGA] * self.n_omegas + [_AMPLITUDE] * len(self.ramps) + [_NOISE]
        self.bounds = np.log([limits for limits, _ in rules])
        self.spread = np.array([spread for _, spread in rules])

    def __call__(self, theta: Array) -> tuple[float, Array]:
        omegas, amplitudes, noise = self._values(theta)
        kernels = [a * r.kernel(w) for r, w, a in zip(self.ramps, omegas, amplitudes, strict=True)]
        slopes = [a * r.slope(w) for r, w, a in zip(self.ramps, omegas, amplitudes, strict=True)]
        if self.n_omegas == 1:
            slopes = [sum(slopes[1:], start=slopes[0])]
        identity = np.eye(len(self.y))
        factor = _cholesky(sum(kernels[1:], start=kernels[0]) + noise * identity)
        alpha = cho_solve((factor, True), self.y)
        value = 0.5 * self.y @ alpha + np.log(np.diag(factor)).sum()
        inner = cho_solve((factor, True), identity) - np.outer(alpha, alpha)
        gradient = [0.5 * np.vdot(inner, k) for k in (*slopes, *kernels, noise * identity)]
        unlikely = theta / self.spread
        return float(value + 0.5 * unlikely @ unlikely), gradient + unlikely / self.spread

    def prior_of(self, theta: Array) -> Prior:
        """Return the prior with these factors."""
        omegas, amplitudes, noise = self._values(theta)
        components = tuple(
            replace(component, omega=float(omega), weight=float(amplitude))
            for component, omega, amplitude in zip(
                self.prior.components, omegas, amplitudes, strict=True
            )
        )
        return replace(
            self.prior, components=components, amplitude=float(amplitudes.sum()), noise=noise
        )

    def _values(self, theta: Array) -> tuple[Array, Array, float]:
        """Return omegas [components], amplitudes [components] and the noise."""
        factors = np.exp(theta)
        omegas = factors[: self.n_omegas] * np.array([c.omega for c in self.prior.components])
        shared = self.prior.amplitude * shares(self.prior.components)
        amplitudes = factors[self.n_omegas : -1] * shared
        return omegas, amplitudes, float(factors[-1] * self.prior.noise)


def _standardised(
    prior: Prior, configs: Sequence[Config], losses: Sequence[float] | Array
) -> tuple[Array, float, float]:
    """Return the losses, their mean and their scale."""
    values = np.asarray(losses, dtype=np.float64)
    if len(configs) != len(values) or not len(values):
        raise ValueError(
            f"a Gaussian process needs one loss per configuration and at least one, got "
            f"{len(configs)} configurations and {len(values)} losses"
        )
    if not np.isfinite(values).all():
        worst = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(
            f"the loss of configuration {worst} is {values[worst]}; "
            "give a candidate that failed a finite one"
        )
    spread = float(values.std()) if prior.standardise else 1.0
    return values, float(values.mean()), spread or 1.0


def _condition(
    prior: Prior, configs: tuple[Config, ...], losses: Array, mean: float, scale: float
) -> GaussianProcess:
    matrix = prior.amplitude * gram(prior.components, configs, configs)
    factor = _cholesky(matrix + prior.noise * np.eye(len(configs)))
    alpha = cho_solve((factor, True), (losses - mean) / scale)
    return GaussianProcess(prior, configs, losses, mean, scale, factor, alpha)


def _cholesky(matrix: Array) -> Array:
    """Return the lower factor, of the nearest matrix with a larger diagonal that has one."""
    jitter = 0.0
    while True:
        try:
            return np.asarray(cholesky(matrix + jitter * np.eye(len(matrix)), lower=True))
        except LinAlgError:
            jitter = max(10 * jitter, 1e-8)

"""One look at a space before any training: a few networks are built and run on random inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dnc_search.parameters import Config, Value
from dnc_search.space import Bayesian, Shape, Space

RANDOM_CANDIDATES = 3
Made = TypeVar("Made")


def check_space(space: Space, shape: Shape, seed: int = 0) -> None:
    """Sum up, build and run the largest network of a space and three random ones.

    Raises ValueError, naming the configuration, when something raises, gives another shape than
    [batch, n_outputs], holds a value that is no number or text, or builds other weights from the
    same seed; and when the space has no stages, or two of one name.
    """
    # neither building nor dropout must move the caller's random state
    with torch.random.fork_rng(devices=[]):
        _check(space, shape, seed)


def _check(space: Space, shape: Shape, seed: int) -> None:
    stages = _attempt("list its stages", None, lambda: space.stages(shape))
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a space needs stages of different names, got {names or 'none'}")
    base = _attempt("give its largest network", None, lambda: dict(space.largest(shape)))
    _check_candidate(space, base, shape, seed)
    rng = np.random.default_rng(seed)
    for _ in range(RANDOM_CANDIDATES):
        config: Config = base
        for stage in stages:
            if isinstance(stage, Bayesian):
                config = _drawn(stage, config, rng)
        _check_candidate(space, config, shape, seed)


def _drawn(stage: Bayesian, config: Config, rng: np.random.Generator) -> dict[str, Value]:
    point = rng.random(stage.dimensions).tolist()
    values = _attempt(
        f"draw a point of its {stage.name} stage", None, lambda: dict(stage.values(point))
    )
    known = {parameter.name: parameter for parameter in stage.parameters}
    for name, value in values.items():
        if name not in known:
            raise ValueError(
                f"the {stage.name} stage draws {name}, which is none of its parameters: "
                f"{', '.join(known)}"
            )
        known[name].check(value)
    return _attempt("complete", values, lambda: stage.place(config, values))


def _check_candidate(space: Space, config: Config, shape: Shape, seed: int) -> None:
    full = _attempt("complete", config, lambda: space.complete(config, shape))
    odd = [name for name, value in full.items() if not isinstance(value, (int, float, str))]
    if odd:
        raise ValueError(
            f"values of a configuration must be numbers or texts, but {', '.join(odd)} of "
            f"{full} is not; choose plain values"
        )
    _attempt("sum up", full, lambda: space.summary(full, shape))
    networks = [_built(space, full, shape, seed, state) for state in (1, 2)]
    weights = [[*network.parameters(), *network.buffers()] for network in networks]
    if not all(map(torch.equal, *weights)):
        raise ValueError(
            f"the space builds other weights from the same seed for {full}; draw them from "
            f"torch.Generator().manual_seed(seed), or call torch.manual_seed(seed) first"
        )
    x = torch.rand(2, shape.n_features)
    y: Tensor = _attempt("run", full, lambda: networks[0](x))
    if tuple(y.shape) != (2, shape.n_outputs):
        raise ValueError(
            f"the network must give [batch, {shape.n_outputs}], but 2 samples gave "
            f"{list(y.shape)} for {full}"
        )


def _built(space: Space, config: Config, shape: Shape, seed: int, state: int) -> nn.Module:
    torch.manual_seed(state)
    network = _attempt("build", config, lambda: space.build(config, shape, seed))
    if not isinstance(network, nn.Module):
        raise ValueError(f"build must return an nn.Module, but gave {network!r} for {config}")
    return network


def _attempt(what: str, config: Config | None, action: Callable[[], Made]) -> Made:
    try:
        return action()
    except Exception as error:
        of = "" if config is None else f" the configuration {dict(config)}"
        raise ValueError(f"the space cannot {what}{of}: {type(error).__name__}: {error}") from error

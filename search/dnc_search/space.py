"""What a search space is: how candidates are described, in which stages they are searched, and how
they become networks.

A configuration is a flat record of plain values and always complete: what no stage has decided yet
stands at its preset. Three names are common to all spaces, `learning_rate`, `weight_decay` and
`batch_size`; a space adds its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from dnc_search.kernel import Component
from dnc_search.parameters import Config, Parameter, Value

# for the few epochs that a candidate gets; Deep-n-Cheap's 1e-3 and 256 suit a hundred
TRAINING_PRESETS: dict[str, Value] = {"learning_rate": 2e-3, "weight_decay": 0.0, "batch_size": 128}


@dataclass(frozen=True)
class Shape:
    """What a network must fit: [batch, n_features] in, [batch, n_outputs] out.

    `image` is (channels, height, width) where the features are an image, row by row of each
    channel. `regression` says that the outputs are numbers, not classes.
    """

    n_features: int
    n_outputs: int
    image: tuple[int, int, int] | None = None
    regression: bool = False


@dataclass(frozen=True)
class Bayesian:
    """A stage that proposes by Gaussian process: `initial` quasi-random points, then `steps` more.

    `parameters` are all that may occur, with fixed ranges. `decode` turns a point of the unit cube,
    of `dimensions` coordinates, into the values of those that do occur (a network of one layer has
    no second width); by default each parameter is drawn from a coordinate of its own. `components`
    are the kernel's, on complete configurations.

    `resets` names presets that follow from what this stage decides, such as a weight decay tied to
    the number of parameters: `Space.complete` has to find them anew.
    """

    name: str
    parameters: tuple[Parameter, ...]
    components: tuple[Component, ...]
    decode: Callable[[Sequence[float]], dict[str, Value]] | None = None
    initial: int = 15
    steps: int = 15
    resets: tuple[str, ...] = ()

    @property
    def dimensions(self) -> int:
        """Coordinates of the unit cube that `values` takes."""
        return len(self.parameters)

    def values(self, point: Sequence[float]) -> dict[str, Value]:
        """Return the values that a point of the unit cube stands for."""
        if self.decode is not None:
            return self.decode(point)
        return {p.name: p.from_unit(u) for p, u in zip(self.parameters, point, strict=True)}

    def place(self, base: Config, values: Config) -> dict[str, Value]:
        """Return `base` with this stage's values in place of what it had of its parameters, and
        without the presets that it resets.
        """
        mine = {parameter.name for parameter in self.parameters} | set(self.resets)
        return {k: v for k, v in base.items() if k not in mine} | dict(values)


@dataclass(frozen=True)
class Grid:
    """A stage that tries each of a few changes to the best configuration so far.

    `changes` gives the values to change, one record per trial; equal configurations are tried once.
    """

    name: str
    changes: Callable[[Config], Sequence[dict[str, Value]]]


Stage = Bayesian | Grid


class Space(ABC):
    """Networks that a search may choose from. Subclasses are frozen dataclasses of plain fields,
    so that a worker on another machine can rebuild them from the ledger.
    """

    @abstractmethod
    def stages(self, shape: Shape) -> tuple[Stage, ...]:
        """Return the stages in their order; each starts from the best of those before it."""

    @abstractmethod
    def build(self, config: Config, shape: Shape, seed: int) -> nn.Module:
        """Return the network of a complete configuration, its weights drawn from the seed."""

    @abstractmethod
    def largest(self, shape: Shape) -> Config:
        """Return the largest network of the space, complete: the baseline of complexity."""

    def complete(self, config: Config, shape: Shape) -> dict[str, Value]:
        """Return the configuration with the presets of everything that it does not say.

        Configurations of equal networks, trained equally, become equal.
        """
        return TRAINING_PRESETS | dict(config)

    def summary(self, config: Config, shape: Shape) -> str:
        """Return one line that tells a person what the network is."""
        return ", ".join(f"{name} {value}" for name, value in config.items())

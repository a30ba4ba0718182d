"""What the spaces of this package share: the order of the stages, and how training is preset."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from torch import nn

from dnc_search.networks import check_activations
from dnc_search.parameters import Config, Value
from dnc_search.space import TRAINING_PRESETS, Bayesian, Shape, Space, Stage
from dnc_search.spaces.grids import Changes, grid
from dnc_search.spaces.training import TrainingRanges

ARCHITECTURE, TRAINING = "architecture", "training"


class Plan(Protocol):
    """A network before it is built. Equal plans are equal networks."""

    @property
    def n_parameters(self) -> int:
        """Weights and biases."""

    def build(self, seed: int) -> nn.Module:
        """Return the network, its weights drawn from the seed."""


@dataclass(frozen=True, kw_only=True)
class StagedSpace(Space):
    """A space searched in stages: the architecture, then one detail after another, then training.

    `order` names the stages to run; the details of one that is left out keep their presets. Each
    Bayesian stage has `initial` quasi-random points and `steps` proposed ones.

    Before a stage decides on them, learning rate and batch size are `preset_learning_rate` and
    `preset_batch_size`, and weight decay is `decay_per_parameter` times the number of
    parameters, 0 below `decay_from` of them. The other training fields are those of
    `TrainingRanges`.

    Raises ValueError for empty ranges, and stages that are unknown or named twice.
    """

    # the names that each stage after the architecture decides on
    DETAILS: ClassVar[Mapping[str, tuple[str, ...]]]
    # the name that says how many layers there are, without which there is no architecture
    DEPTH: ClassVar[str]

    order: tuple[str, ...]
    initial: int = 15
    steps: int = 15
    activations: tuple[str, ...] = ("relu", "tanh", "sigmoid")
    learning_rate: tuple[float, float] = (1e-4, 1e-2)
    weight_decay: tuple[float, float] = (1e-6, 1e-3)
    no_decay_below: float = 0.0
    batch_size: tuple[int, int] = (32, 512)
    batch_log: bool = True
    preset_learning_rate: float = float(TRAINING_PRESETS["learning_rate"])
    preset_batch_size: int = int(TRAINING_PRESETS["batch_size"])
    decay_per_parameter: float = 0.0
    decay_from: int = 0

    def __post_init__(self) -> None:
        known = (ARCHITECTURE, *self.DETAILS, TRAINING)
        if not set(self.order) <= set(known) or not 0 < len(set(self.order)) == len(self.order):
            raise ValueError(
                f"order must name at least one of {', '.join(known)}, each once; got {self.order}"
            )
        if self.order[0] not in (ARCHITECTURE, TRAINING):
            raise ValueError(
                f"order must begin with {ARCHITECTURE} or {TRAINING}, for {self.order[0]} has no "
                f"network to change yet"
            )
        if self.initial < 1 or self.steps < 0:
            raise ValueError(
                f"a stage needs at least 1 initial point and 0 steps, "
                f"got initial {self.initial} and steps {self.steps}"
            )
        if self.decay_per_parameter < 0:
            raise ValueError(
                f"decay_per_parameter must be at least 0, got {self.decay_per_parameter}"
            )
        if not (self.preset_learning_rate > 0 and self.preset_batch_size >= 1):
            raise ValueError(
                f"the preset learning rate must be above 0 and the preset batch size at least 1, "
                f"got {self.preset_learning_rate:g} and {self.preset_batch_size}"
            )
        check_activations(self.activations)
        # valid once built
        _ = self.ranges

    @property
    def ranges(self) -> TrainingRanges:
        """The ranges of the last stage."""
        return TrainingRanges(
            *(self.learning_rate, self.weight_decay, self.no_decay_below),
            *(self.batch_size, self.batch_log),
        )

    @abstractmethod
    def plan(self, config: Config, shape: Shape) -> Plan:
        """Return the network of a complete configuration before it is built."""

    @abstractmethod
    def architecture(self, shape: Shape) -> Bayesian:
        """Return the stage that decides on layers and what they are made of."""

    @abstractmethod
    def tried(self) -> Mapping[str, Changes]:
        """Return the changes that each stage between the Bayesian ones tries."""

    @abstractmethod
    def presets(self, config: Config) -> dict[str, Value]:
        """Return the details of an architecture that no stage has decided yet."""

    def normal(self, config: Config, shape: Shape) -> dict[str, Value]:
        """Return a configuration that all those of an equal network have in common."""
        return dict(config)

    def stages(self, shape: Shape) -> tuple[Stage, ...]:
        """Return the stages in the order asked for."""
        return tuple(self._stage(name, shape) for name in self.order)

    def complete(self, config: Config, shape: Shape) -> dict[str, Value]:
        """Return the configuration with all presets, that of the architecture being the largest.

        Configurations of equal networks, trained equally, become equal.
        """
        known = dict(config) if self.DEPTH in config else {**self.largest(shape), **config}
        presets = self.presets(known) | {
            "learning_rate": self.preset_learning_rate,
            "weight_decay": 0.0,
            "batch_size": self.preset_batch_size,
        }
        # what is known comes first, and wins
        full = self.normal({**known, **presets, **known}, shape)
        if "weight_decay" not in known and self.decay_per_parameter:
            n_parameters = self.plan(full, shape).n_parameters
            decays = n_parameters >= self.decay_from
            full["weight_decay"] = self.decay_per_parameter * n_parameters * decays
        return full

    def build(self, config: Config, shape: Shape, seed: int) -> nn.Module:
        """Return the network of a configuration, its weights drawn from the seed."""
        return self.plan(self.complete(config, shape), shape).build(seed)

    def _stage(self, name: str, shape: Shape) -> Stage:
        if name == ARCHITECTURE:
            decided = self.order[: self.order.index(ARCHITECTURE)]
            details = {**self.DETAILS, TRAINING: ("weight_decay",)}
            return replace(
                self.architecture(shape),
                initial=self.initial,
                steps=self.steps,
                resets=tuple(
                    n for stage in details if stage not in decided for n in details[stage]
                ),
            )
        if name == TRAINING:
            return self.ranges.stage(initial=self.initial, steps=self.steps)

        def network(config: Config) -> Plan:
            return self.plan(self.complete(config, shape), shape)

        return grid(name, self.tried()[name], network)

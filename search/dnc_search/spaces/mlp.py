"""Multilayer perceptrons: fully connected, and what they share with the sparse ones.

Presets of Deep-n-Cheap: ReLU, dropout of 0.2 after every hidden layer, He's initialisation with
biases of 0.1, and a weight decay tied to the number of parameters:

| data           | decay per parameter | 0 below this many parameters |
|----------------|---------------------|------------------------------|
| MNIST, Fashion | 1e-9                | 10,000                       |
| RCV1           | 1e-10               | 100,000                      |
| other          | 0                   |                              |
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from dnc_search.kernel import Component, same_limits
from dnc_search.networks import Junction, MlpPlan, dense_junctions
from dnc_search.parameters import Config, Integer, Value
from dnc_search.space import Bayesian, Shape
from dnc_search.spaces.components import layers, number, numbered
from dnc_search.spaces.grids import Changes, values_of
from dnc_search.spaces.staged import StagedSpace


@dataclass(frozen=True, kw_only=True)
class MlpSpace(StagedSpace):
    """Perceptrons of `hidden_layers` hidden layers of `nodes` neurons each, lowest and highest.

    `dropout` is the preset probability after hidden layers, of networks with `dropout_from`
    parameters or more: smaller ones do not overfit. `dropouts` are those its stage tries. A network
    without hidden layers has no activation and no dropout to decide on.
    """

    DETAILS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "activation": ("activation",),
        "dropout": ("dropout",),
    }
    DEPTH: ClassVar[str] = "hidden_layers"

    order: tuple[str, ...] = ("architecture", "activation", "dropout", "training")
    hidden_layers: tuple[int, int]
    nodes: tuple[int, int]
    dropout: float
    dropout_from: int = 0
    dropouts: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        Integer("hidden_layers", *self.hidden_layers)
        Integer("nodes", *self.nodes)
        if self.hidden_layers[0] < 0 or self.nodes[0] < 1:
            raise ValueError(
                f"there must be at least 0 hidden layers and 1 node in each, "
                f"got hidden_layers {self.hidden_layers} and nodes {self.nodes}"
            )
        if not all(0 <= p < 1 for p in (self.dropout, *self.dropouts)):
            raise ValueError(
                f"dropout must be at least 0 and below 1, got {self.dropout} and {self.dropouts}"
            )

    @abstractmethod
    def junctions(self, config: Config, shape: Shape) -> tuple[Junction, ...]:
        """Return the junctions of an architecture."""

    @abstractmethod
    def uniform(self, end: Literal[0, 1]) -> Iterable[dict[str, Value]]:
        """Return architectures of every depth with all else at the lower or the upper limit."""

    def n_parameters(self, config: Config, shape: Shape) -> int:
        """Return the weights and biases of an architecture."""
        return sum(junction.n_parameters for junction in self.junctions(config, shape))

    def largest(self, shape: Shape) -> dict[str, Value]:
        """Return the architecture with the most parameters."""
        # few nodes make fewer parameters than none: 784-5-10 has half of 784-10
        return max(self.uniform(1), key=lambda config: self.n_parameters(config, shape))

    def plan(self, config: Config, shape: Shape) -> MlpPlan:
        """Return the network of a complete configuration before it is built."""
        return MlpPlan(
            self.junctions(config, shape), str(config["activation"]), float(config["dropout"])
        )

    def tried(self) -> Mapping[str, Changes]:
        """Return the activations and the probabilities of dropout."""
        return {
            "activation": values_of("activation", self.activations),
            "dropout": values_of("dropout", self.dropouts),
        }

    def presets(self, config: Config) -> dict[str, Value]:
        """Return the first activation and the preset dropout."""
        return {"activation": self.activations[0], "dropout": self.dropout}

    def complete(self, config: Config, shape: Shape) -> dict[str, Value]:
        """Return the configuration with all presets, which depend on its size."""
        full = super().complete(config, shape)
        decides = self.dropout_from > 0 and "dropout" not in config
        if decides and self.n_parameters(full, shape) < self.dropout_from:
            full["dropout"] = 0.0
        return full

    def normal(self, config: Config, shape: Shape) -> dict[str, Value]:
        """Return the configuration without what a network of no hidden layer ignores."""
        if config["hidden_layers"]:
            return dict(config)
        return {**config, "activation": self.activations[0], "dropout": 0.0}

    def summary(self, config: Config, shape: Shape) -> str:
        """Return the sizes of the layers, densities below 1 between them, and the details."""
        junctions = self.junctions(config, shape)
        sizes = str(shape.n_features) + "".join(
            ("-" if j.density == 1 else f" -({j.density:.3g})- ") + str(j.n_out) for j in junctions
        )
        if len(junctions) == 1:
            return sizes
        return f"{sizes}, {config['activation']}, dropout {config['dropout']:g}"


@dataclass(frozen=True, kw_only=True)
class Mlp(MlpSpace):
    """Fully connected perceptrons, by default those that Deep-n-Cheap searches.

    `nodes_log` draws and compares widths on a log scale. The kernel compares the number of hidden
    layers and, layer by layer, the widths (`kernel="layers"`), or as published the sum of all
    nodes (`kernel="paper"`), which cannot tell 100-300 from 300-100.
    """

    hidden_layers: tuple[int, int] = (0, 2)
    nodes: tuple[int, int] = (20, 400)
    nodes_log: bool = False
    dropout: float = 0.2
    kernel: Literal["layers", "paper"] = "layers"
    decay_per_parameter: float = 1e-9
    decay_from: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel not in ("layers", "paper"):
            raise ValueError(f"kernel must be layers or paper, got {self.kernel!r}")

    def junctions(self, config: Config, shape: Shape) -> tuple[Junction, ...]:
        """Return the junctions of a complete configuration, all dense."""
        hidden = map(int, numbered(config, "nodes", "hidden_layers"))
        return dense_junctions((shape.n_features, *hidden, shape.n_outputs))

    def uniform(self, end: Literal[0, 1]) -> Iterable[dict[str, Value]]:
        """Return architectures of every depth, all layers of the fewest or of the most nodes."""
        low, high = self.hidden_layers
        return (self._of([self.nodes[end]] * depth) for depth in range(low, high + 1))

    def architecture(self, shape: Shape) -> Bayesian:
        """Return the stage of depth and widths."""
        depth, *widths = parameters = self._parameters

        def decode(point: Sequence[float]) -> dict[str, Value]:
            n = depth.from_unit(point[0])
            return self._of([w.from_unit(u) for w, u in zip(widths[:n], point[1:], strict=False)])

        return Bayesian("architecture", parameters, self._components(), decode)

    @property
    def _parameters(self) -> tuple[Integer, ...]:
        count = self.hidden_layers[1]
        return (
            Integer("hidden_layers", *self.hidden_layers),
            *(Integer(f"nodes_{i}", *self.nodes, self.nodes_log) for i in range(1, count + 1)),
        )

    def _of(self, hidden: Sequence[int]) -> dict[str, Value]:
        return {
            "hidden_layers": len(hidden),
            **{f"nodes_{i}": n for i, n in enumerate(hidden, start=1)},
        }

    def _components(self) -> tuple[Component, ...]:
        low, high = self.hidden_layers
        if self.kernel == "layers":
            widths = layers("nodes", "hidden_layers", *self.nodes, log=self.nodes_log)
            return (number("hidden_layers", low, high), widths)
        total = Component(
            "total nodes",
            lambda config: (sum(numbered(config, "nodes", "hidden_layers")),),
            same_limits(0.0, high * self.nodes[1]),
            lambda layer: 0.5,
        )
        return (total, number("hidden_layers", 0, high))

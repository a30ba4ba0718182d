"""A search space of one's own: two layers of one width around a narrow one.

To search it: `--space examples/search_space.py:Bottleneck`.
"""

from dataclasses import dataclass

import torch
from torch import nn

from dnc_search.parameters import Config, Integer, Value
from dnc_search.space import Bayesian, Shape, Space, Stage
from dnc_search.spaces.components import number


@dataclass(frozen=True)
class Bottleneck(Space):
    """The sizes to choose from, lowest and highest."""

    outer: tuple[int, int] = (16, 256)
    middle: tuple[int, int] = (2, 16)

    def stages(self, shape: Shape) -> tuple[Stage, ...]:
        parameters = Integer("outer", *self.outer, log=True), Integer("middle", *self.middle)
        compared = number("outer", *self.outer, log=True), number("middle", *self.middle)
        return (Bayesian("architecture", parameters, compared),)

    def build(self, config: Config, shape: Shape, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        outer, middle = int(config["outer"]), int(config["middle"])
        return nn.Sequential(
            *(nn.Linear(shape.n_features, outer), nn.ReLU()),
            *(nn.Linear(outer, middle), nn.ReLU(), nn.Linear(middle, outer), nn.ReLU()),
            nn.Linear(outer, shape.n_outputs),
        )

    def largest(self, shape: Shape) -> dict[str, Value]:
        return {"outer": self.outer[1], "middle": self.middle[1]}

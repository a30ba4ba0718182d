"""Perceptrons of pre-defined sparse junctions: neurons, weights, depth and density, nothing else.

Under a penalty on parameters the networks worth having differ by two decades in size, so widths
and densities are drawn, and compared, on log scales.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Literal

from dnc_search.kernel import Component, same_limits
from dnc_search.networks import Junction, nearest_junction
from dnc_search.parameters import Choice, Config, Integer, Real, Value
from dnc_search.space import Bayesian, Shape
from dnc_search.spaces.components import choice, layers, number, numbered
from dnc_search.spaces.mlp import MlpSpace
from dnc_sparse.patterns.blocks import SIDES, Auto
from dnc_sparse.patterns.rounding import FAMILIES


@dataclass(frozen=True, kw_only=True)
class SparseMlp(MlpSpace):
    """Perceptrons whose junctions have a density each, fixed before training.

    `density` is the range of the junctions into hidden layers, `output_density` that of the last,
    whose few neurons need more of their inputs. Densities are rounded to what the sizes allow;
    where a range holds none, the smallest above it is taken. `blocks` are sides of the dense tiles
    that edges come in: widths become multiples of it, and along inputs and outputs that it does not
    divide the tile is as long as their greatest common divisor. "auto" is the side that suits each
    junction, see `dnc_sparse.patterns.choose_block`; widths become multiples of 8 from 64 on, of 4
    from 32 on. `families` are those of `dnc_sparse.patterns.nearest`.

    Raises ValueError for densities outside 0..1, blocks of which no multiple is a width, unknown
    families, and clash_free or cyclic ones, which few widths allow, below a density of 1.
    """

    hidden_layers: tuple[int, int] = (0, 3)
    nodes: tuple[int, int] = (16, 1024)
    density: tuple[float, float] = (1 / 64, 1.0)
    output_density: tuple[float, float] = (1 / 8, 1.0)
    blocks: tuple[int | Auto, ...] = ("auto",)
    families: tuple[str, ...] = ("auto",)
    dropout: float = 0.0
    # with it networks of few weights err less than with 2e-3, large ones no more
    preset_learning_rate: float = 4e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, (low, high) in (
            ("density", self.density),
            ("output_density", self.output_density),
        ):
            if not 0 < low <= high <= 1:
                raise ValueError(
                    f"{name} must run from above 0 to at most 1, lower limit first; "
                    f"got {low:g}..{high:g}"
                )
        Choice("block", self.blocks)
        Choice("family", self.families)
        low, high = self.nodes
        for block in self.blocks:
            if block == "auto":
                continue
            if block < 1 or high // block * block < low:
                raise ValueError(
                    f"no multiple of block {block} is a number of nodes in {low}..{high}; "
                    f"widen nodes, or leave the block out"
                )
        constant = [family for family in self.families if family in ("clash_free", "cyclic")]
        if constant and min(self.density[1], self.output_density[1]) < 1:
            raise ValueError(
                f"{' and '.join(constant)} patterns of some widths have every edge or none, so "
                f"density and output_density must go up to 1, got {self.density[1]:g} and "
                f"{self.output_density[1]:g}; or choose the auto family"
            )
        unknown = [family for family in self.families if family not in FAMILIES]
        if unknown:
            raise ValueError(f"unknown families {', '.join(unknown)}; known: {', '.join(FAMILIES)}")

    def junctions(self, config: Config, shape: Shape) -> tuple[Junction, ...]:
        """Return the junctions of a configuration, each of a density that its sizes allow."""
        hidden = map(int, numbered(config, "nodes", "hidden_layers"))
        sizes = (shape.n_features, *hidden, shape.n_outputs)
        ranges = [self.density] * (len(sizes) - 2) + [self.output_density]
        densities = (*numbered(config, "density", "hidden_layers"), float(config["output_density"]))
        side, family = _side(config["block"]), str(config["family"])
        return tuple(
            nearest_junction(*pair, density, limits, side, family)
            for pair, density, limits in zip(pairwise(sizes), densities, ranges, strict=True)
        )

    def presets(self, config: Config) -> dict[str, Value]:
        """Return the first activation, block and family, and the preset dropout."""
        return {
            **super().presets(config),
            "block": self.blocks[0],
            "family": self.families[0],
        }

    def normal(self, config: Config, shape: Shape) -> dict[str, Value]:
        """Return the configuration with densities as they are, and no block that makes no odds."""
        return self._exact(super().normal(config, shape), shape)

    def _exact(self, config: Config, shape: Shape) -> dict[str, Value]:
        junctions = self.junctions(config, shape)
        *hidden, last = (junction.density for junction in junctions)
        rounded = {**config, "output_density": last}
        rounded |= {f"density_{i}": density for i, density in enumerate(hidden, start=1)}
        if all(junction.density == 1 for junction in junctions):
            rounded["family"] = self.families[0]
        if len(self.blocks) > 1:
            same = (
                block
                for block in self.blocks
                if self.junctions({**rounded, "block": block}, shape) == junctions
            )
            # the smallest number, "auto" only where no number does it
            rounded["block"] = min(same, key=lambda block: (block == "auto", block))
        return rounded

    def uniform(self, end: Literal[0, 1]) -> Iterable[dict[str, Value]]:
        """Return every depth, block and family with nodes and densities at one of their limits."""
        low, high = self.hidden_layers
        for depth, block, family in product(range(low, high + 1), self.blocks, self.families):
            width, each = self._multiple(self.nodes[end], block), range(1, depth + 1)
            yield {
                "hidden_layers": depth,
                "block": block,
                "family": family,
                **{f"nodes_{i}": width for i in each},
                **{f"density_{i}": self.density[end] for i in each},
                "output_density": self.output_density[end],
            }

    def architecture(self, shape: Shape) -> Bayesian:
        """Return the stage of depth, widths, densities, block and family."""
        drawn = self._drawn
        # a small layer may have no density as low as the upper limit
        parameters = tuple(replace(p, high=1.0) if isinstance(p, Real) else p for p in drawn)

        def decode(point: Sequence[float]) -> dict[str, Value]:
            values = {p.name: p.from_unit(u) for p, u in zip(drawn, point, strict=True)}
            depth, block = int(values["hidden_layers"]), _side(values["block"])
            for i in range(1, self.hidden_layers[1] + 1):
                if i <= depth:
                    values[f"nodes_{i}"] = self._multiple(int(values[f"nodes_{i}"]), block)
                else:
                    del values[f"nodes_{i}"], values[f"density_{i}"]
            return self._exact(values, shape)

        return Bayesian("architecture", parameters, self._components(shape), decode)

    def _multiple(self, nodes: int, block: int | Auto) -> int:
        """Return the multiple of the block nearest to a number of nodes, within their range."""
        low, high = self.nodes
        if block == "auto":
            # narrow layers have too few blocks of their own, and would have few widths
            wide = (side for side in SIDES if nodes >= 8 * side and high // side * side >= low)
            side = next(wide, 1)
        else:
            side = block
        return side * min(max(round(nodes / side), -(-low // side)), high // side)

    def _size(self, shape: Shape) -> Component:
        """Compare the number of parameters, by which a penalty on them or on time goes."""
        low = min(self.n_parameters(config, shape) for config in self.uniform(0))
        high = self.n_parameters(self.largest(shape), shape)
        return Component(
            "parameters",
            lambda config: (math.log(self.n_parameters(config, shape)),),
            same_limits(math.log(low), math.log(high)),
        )

    @property
    def _drawn(self) -> tuple[Integer | Real | Choice, ...]:
        each = range(1, self.hidden_layers[1] + 1)
        return (
            Integer("hidden_layers", *self.hidden_layers),
            Choice("block", self.blocks),
            Choice("family", self.families),
            Real("output_density", *self.output_density, log=True),
            *(Integer(f"nodes_{i}", *self.nodes, log=True) for i in each),
            *(Real(f"density_{i}", *self.density, log=True) for i in each),
        )

    def _components(self, shape: Shape) -> tuple[Component, ...]:
        choices: dict[str, tuple[Value, ...]] = {"block": self.blocks, "family": self.families}
        return (
            self._size(shape),
            number("hidden_layers", *self.hidden_layers),
            layers("nodes", "hidden_layers", *self.nodes, log=True),
            layers("density", "hidden_layers", *self.density, log=True),
            number("output_density", *self.output_density, log=True),
            *(choice(name, options) for name, options in choices.items() if len(options) > 1),
        )


def _side(block: Value) -> int | Auto:
    return "auto" if block == "auto" else int(block)

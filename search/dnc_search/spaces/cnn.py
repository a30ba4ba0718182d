"""Convolutional networks of Deep-n-Cheap: 3x3 kernels, widths that grow, halved by a rule.

| name      | meaning                                                                       |
|-----------|-------------------------------------------------------------------------------|
| c_i       | channels of layer i; c_1 of a range, c_i of c_(i-1)..min(2 c_(i-1), the most)  |
| halving   | the image's sides are halved after layer i where c_i <= t < c_(i+1) for t in   |
|           | 64, 128, 256                                                                   |

Presets: max-pooling at each halving, batch norm after every layer, dropout of 0.1 after the first
and 0.3 after the others, ReLU, and shortcuts by depth: none up to 8 layers, after every 4th layer
from 9, after every 2nd from 15. Weight decay is 1e-11 per parameter from a million parameters on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from dnc_search.kernel import Component, doubling_limits, layer_root, same_limits
from dnc_search.networks import nearest_junction
from dnc_search.networks_cnn import SKIPPED, ConvLayer, ConvPlan
from dnc_search.parameters import Config, Integer, Value
from dnc_search.space import Bayesian, Shape
from dnc_search.spaces.components import numbered
from dnc_search.spaces.grids import Changes, dropout_of, spread, strided_of, values_of
from dnc_search.spaces.staged import StagedSpace

HALVED_ABOVE = (64, 128, 256)
# layers between the starts of two shortcuts
SHORTCUTS: dict[str, int | None] = {"none": None, "every 4": 4, "every 2": 2}


@dataclass(frozen=True, kw_only=True)
class Cnn(StagedSpace):
    """Convolutional networks of `conv_layers` layers, `first_channels` in the first of them.

    The data must be images. Each width is at least the one before it, at most twice that and at
    most `most_channels`. `classifier_density` makes the last layer sparse. The kernel compares
    widths layer by layer, those of later layers by higher roots, scaled by limits that double from
    layer to layer (`kernel="paper"`) or stay those of the first (`kernel="code"`, as released).

    The other fields are what the stages between try: `batch_norms` fractions of the layers,
    `dropouts` fractions with each probability in `dropout_probabilities`, or in
    `first_dropout_probabilities` for the first layer where it has dropout.

    Raises ValueError for empty ranges, and fractions or probabilities outside 0..1.
    """

    DETAILS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "activation": ("activation",),
        "downsampling": ("strided",),
        "batch_norm": ("batch_norm",),
        "dropout": ("dropout_fraction", "dropout_first", "dropout"),
        "shortcuts": ("shortcuts",),
    }
    DEPTH: ClassVar[str] = "conv_layers"

    order: tuple[str, ...] = ("architecture", *DETAILS, "training")
    conv_layers: tuple[int, int] = (4, 16)
    first_channels: tuple[int, int] = (16, 64)
    most_channels: int = 512
    classifier_density: float = 1.0
    kernel: Literal["paper", "code"] = "paper"
    batch_norms: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    dropouts: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    first_dropout_probabilities: tuple[float, ...] = (0.1, 0.2)
    dropout_probabilities: tuple[float, ...] = (0.15, 0.3, 0.45)
    decay_per_parameter: float = 1e-11
    decay_from: int = 1_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        Integer("conv_layers", *self.conv_layers)
        Integer("first_channels", *self.first_channels)
        if min(self.conv_layers[0], self.first_channels[0]) < 1:
            raise ValueError(
                f"there must be at least 1 layer of 1 channel, got conv_layers "
                f"{self.conv_layers} and first_channels {self.first_channels}"
            )
        if self.most_channels < self.first_channels[1]:
            raise ValueError(
                f"most_channels {self.most_channels} is below the upper limit of first_channels, "
                f"{self.first_channels[1]}; raise the one or lower the other"
            )
        if not 0 < self.classifier_density <= 1:
            raise ValueError(
                f"classifier_density must be above 0 and at most 1, got {self.classifier_density}"
            )
        for name in ("batch_norms", "dropouts"):
            if not all(0 <= fraction <= 1 for fraction in getattr(self, name)):
                raise ValueError(f"{name} must be fractions in 0..1, got {getattr(self, name)}")
        for name in ("first_dropout_probabilities", "dropout_probabilities"):
            probabilities = getattr(self, name)
            if not probabilities or not all(0 <= p < 1 for p in probabilities):
                raise ValueError(
                    f"{name} must be one or more numbers of at least 0 and below 1, "
                    f"got {probabilities}"
                )
        if self.kernel not in ("paper", "code"):
            raise ValueError(f"kernel must be paper or code, got {self.kernel!r}")

    def plan(self, config: Config, shape: Shape) -> ConvPlan:
        """Return the network of a complete configuration before it is built.

        Raises ValueError for data that are no images.
        """
        if shape.image is None:
            raise ValueError(
                "a CNN needs images, but the data say nothing of channels, height and width; "
                "search an mlp space, or give the data an image shape"
            )
        widths = channels(config)
        classifier = nearest_junction(
            *(widths[-1], shape.n_outputs, self.classifier_density), limits=(0.0, 1.0)
        )
        return ConvPlan(shape.image, conv_layers(config), classifier, str(config["activation"]))

    def architecture(self, shape: Shape) -> Bayesian:
        """Return the stage of depth and widths."""
        most = self.conv_layers[1]
        depth = Integer("conv_layers", *self.conv_layers)
        first = Integer("channels_1", *self.first_channels)
        low = self.first_channels[0]
        later = [Integer(f"channels_{i}", low, self.most_channels) for i in range(2, most + 1)]

        def decode(point: Sequence[float]) -> dict[str, Value]:
            widths = [first.from_unit(point[1])]
            for u in point[2 : depth.from_unit(point[0]) + 1]:
                limits = (widths[-1], min(2 * widths[-1], self.most_channels))
                widths.append(Integer("channels", *limits).from_unit(u))
            return _of(widths)

        return Bayesian("architecture", (depth, first, *later), (self._component(),), decode)

    def largest(self, shape: Shape) -> dict[str, Value]:
        """Return the deepest architecture, each width as large as may be."""
        first = self.first_channels[1]
        depth = self.conv_layers[1]
        return _of([min(first * 2**i, self.most_channels) for i in range(depth)])

    def tried(self) -> Mapping[str, Changes]:
        """Return the changes that each stage between the Bayesian ones tries."""
        return {
            "activation": values_of("activation", self.activations),
            "downsampling": strided_of(lambda config: len(halvings(channels(config)))),
            "batch_norm": values_of("batch_norm", self.batch_norms),
            "dropout": dropout_of(
                *(self.dropouts, self.first_dropout_probabilities, self.dropout_probabilities)
            ),
            "shortcuts": values_of("shortcuts", tuple(SHORTCUTS)),
        }

    def presets(self, config: Config) -> dict[str, Value]:
        """Return the details of an architecture that no stage has decided yet."""
        depth = int(config["conv_layers"])
        return {
            "activation": self.activations[0],
            "strided": "",
            "batch_norm": 1.0,
            "dropout_fraction": 1.0,
            "dropout_first": 0.1,
            "dropout": 0.3,
            "shortcuts": "none" if depth <= 8 else "every 4" if depth <= 14 else "every 2",
        }

    def normal(self, config: Config, shape: Shape) -> dict[str, Value]:
        """Return the configuration without the dropout that no layer has, nor strides nowhere."""
        dropped = spread(float(config["dropout_fraction"]), int(config["conv_layers"]))
        normal = {**config, "strided": ",".join(map(str, strides(config)))}
        if 0 not in dropped:
            normal["dropout_first"] = 0.0
        if not dropped - {0}:
            normal["dropout"] = 0.0
        return normal

    def summary(self, config: Config, shape: Shape) -> str:
        """Return the widths, a bar for each pooling, a slash for each stride, and the details."""
        plan = self.plan(config, shape)
        marks = {"": " ", "pool": " | ", "stride": " / "}
        widths = "".join(f"{layer.channels}{marks[layer.downsampling]}" for layer in plan.layers)
        norms = sum(layer.batch_norm for layer in plan.layers)
        drops = sum(layer.dropout > 0 for layer in plan.layers)
        image = "x".join(map(str, plan.image))
        return (
            f"{image}: {widths.strip()}: {shape.n_outputs}, {plan.activation}, "
            f"batch norm after {norms}, dropout {config['dropout']:g} after {drops}, "
            f"shortcuts {config['shortcuts']}"
        )

    def _component(self) -> Component:
        low, high = self.first_channels
        paper = self.kernel == "paper"
        limits = doubling_limits(low, high, self.most_channels) if paper else same_limits(low, high)
        # the released code clips nothing
        return Component("channels", channels, limits, layer_root, clip=paper)


def channels(config: Config) -> tuple[int, ...]:
    """Return the channels of each convolution."""
    return tuple(map(int, numbered(config, "channels", "conv_layers")))


def halvings(widths: Sequence[int]) -> list[int]:
    """Return the layers, from 0, after which the sides of the image are halved."""
    return [
        i
        for i, (width, following) in enumerate(pairwise(widths))
        if any(width <= limit < following for limit in HALVED_ABOVE)
    ]


def strides(config: Config) -> list[int]:
    """Return which of the halvings, from 1, are strides."""
    count = len(halvings(channels(config)))
    places = {int(place) for place in str(config["strided"]).split(",") if place}
    return sorted(place for place in places if place <= count)


def conv_layers(config: Config) -> tuple[ConvLayer, ...]:
    """Return the convolutions of a complete configuration and what follows each."""
    widths = channels(config)
    count = len(widths)
    halved = halvings(widths)
    strided = {halved[place - 1] for place in strides(config)}
    normed = spread(float(config["batch_norm"]), count)
    dropped = spread(float(config["dropout_fraction"]), count)
    every = SHORTCUTS[str(config["shortcuts"])]
    starts = () if every is None else range(0, count - SKIPPED, every)
    return tuple(
        ConvLayer(
            width,
            downsampling="stride" if i in strided else "pool" if i in halved else "",
            batch_norm=i in normed,
            dropout=float(config["dropout" if i else "dropout_first"]) if i in dropped else 0.0,
            shortcut=i in starts,
        )
        for i, width in enumerate(widths)
    )


def _of(widths: Sequence[int]) -> dict[str, Value]:
    return {"conv_layers": len(widths), **{f"channels_{i}": c for i, c in enumerate(widths, 1)}}

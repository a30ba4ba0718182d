"""The networks of the CNN space: 3x3 convolutions, global average pooling, one linear layer.

Each layer runs convolution, max-pooling, batch norm, activation, dropout, those that it has. A
shortcut leaves after a layer, skips the next two and rejoins before the activation of the second,
its new channels zero, its sides halved by average pooling where theirs are (facts of
Deep-n-Cheap's public code, github.com/souryadey/deep-n-cheap).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dnc_search.networks import ACTIVATIONS, Junction
from dnc_sparse.nn import he_normal_

Downsampling = Literal["", "pool", "stride"]
SKIPPED = 2


@dataclass(frozen=True)
class ConvLayer:
    """A convolution and what follows it; `shortcut` says that one leaves after this layer."""

    channels: int
    downsampling: Downsampling = ""
    batch_norm: bool = True
    dropout: float = 0.0
    shortcut: bool = False


@dataclass(frozen=True)
class ConvPlan:
    """A convolutional network before it is built; equal plans are equal networks."""

    image: tuple[int, int, int]
    layers: tuple[ConvLayer, ...]
    classifier: Junction
    activation: str

    @property
    def n_parameters(self) -> int:
        """Kernels and biases, two numbers per channel of a batch norm, and the linear layer."""
        channels = [self.image[0], *(layer.channels for layer in self.layers)]
        kernels = sum((9 * n_in + 1) * n_out for n_in, n_out in pairwise(channels))
        norms = sum(2 * layer.channels for layer in self.layers if layer.batch_norm)
        return kernels + norms + self.classifier.n_parameters

    def build(self, seed: int) -> nn.Module:
        """Return the network: [batch, channels * height * width] to [batch, n_outputs].

        Weights are He's normal, biases 0 in convolutions and 0.1 in the linear layer; the same seed
        gives the same weights. The global random state is left alone.
        """
        with torch.random.fork_rng(devices=[]):
            network = ConvNet(self, seed)
        generator = torch.Generator().manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(module.bias)
        he_normal_(network, fan_in="sparse", generator=generator)
        return network


class ConvNet(nn.Module):
    """The network of a plan, on flat features: [batch, channels * height * width]."""

    def __init__(self, plan: ConvPlan, seed: int) -> None:
        super().__init__()
        self.image = plan.image
        channels = [plan.image[0], *(layer.channels for layer in plan.layers)]
        self.layers = nn.ModuleList(
            ConvStep(n_in, layer, plan.activation)
            for n_in, layer in zip(channels, plan.layers, strict=False)
        )
        self.plans = plan.layers
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = plan.classifier.build(seed)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs: [batch, n_outputs]."""
        x = x.reshape(x.shape[0], *self.image)
        # what rejoins, by the layer it rejoins at
        rejoining: dict[int, Tensor] = {}
        for i, (layer, plan) in enumerate(zip(self.layers, self.plans, strict=True)):
            if plan.downsampling:
                rejoining = {place: _halved(each) for place, each in rejoining.items()}
            x = layer(x, rejoining.pop(i, None))
            if plan.shortcut:
                rejoining[i + SKIPPED] = x
        y: Tensor = self.classifier(self.pool(x).flatten(1))
        return y


class ConvStep(nn.Module):
    """One convolution with its pooling, batch norm, activation and dropout."""

    def __init__(self, n_in: int, layer: ConvLayer, activation: str) -> None:
        super().__init__()
        stride = 2 if layer.downsampling == "stride" else 1
        steps: list[nn.Module] = [nn.Conv2d(n_in, layer.channels, 3, stride=stride, padding=1)]
        if layer.downsampling == "pool":
            # rounded up, as a stride of 2 does, so that both give the same sides and none is 0
            steps.append(nn.MaxPool2d(2, ceil_mode=True))
        if layer.batch_norm:
            steps.append(nn.BatchNorm2d(layer.channels))
        self.linear = nn.Sequential(*steps)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(layer.dropout)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Return the layer's output, `shortcut` of the same sides added before the activation."""
        y: Tensor = self.linear(x)
        if shortcut is not None:
            y = y + _widened(shortcut, y)
        y = self.dropout(self.activation(y))
        return y


def _halved(shortcut: Tensor) -> Tensor:
    # sides are rounded up, as those of the layers are
    return F.avg_pool2d(shortcut, 2, ceil_mode=True)


def _widened(shortcut: Tensor, y: Tensor) -> Tensor:
    """Return the shortcut with the channels of y: [batch, channels, height, width]."""
    return F.pad(shortcut, (0, 0, 0, 0, 0, y.shape[1] - shortcut.shape[1]))

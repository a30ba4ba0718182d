"""Models for `dnc-sparse advise`, each with an example to train on; docs/should-i-use-it.md.

    dnc-sparse advise examples/advise_models.py:mlp --threads 1 --check

Run as a script it prints what a square layer gains, by its width and the samples of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import dnc_sparse

WIDTHS, BATCHES, DENSITIES = (64, 128, 256, 512, 1024), (1, 16, 64, 256), (1 / 2, 1 / 4, 1 / 8)


def mlp() -> tuple[nn.Module, Tensor]:
    """Two wide hidden layers, as for images of 28x28."""
    model = nn.Sequential(
        *(nn.Linear(784, 1024), nn.ReLU()),
        *(nn.Linear(1024, 1024), nn.ReLU()),
        nn.Linear(1024, 10),
    )
    return model, torch.randn(256, 784)


def encoder() -> tuple[nn.Module, Tensor]:
    """An encoder of torch, 8 sequences of 128 tokens."""
    layer = nn.TransformerEncoderLayer(512, 8, batch_first=True)
    model = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    return model, torch.randn(8, 128, 512)


def vit() -> tuple[nn.Module, Tensor]:
    """The smallest vision transformer of timm, 8 images."""
    import timm

    return timm.create_model("vit_tiny_patch16_224"), torch.randn(8, 3, 224, 224)


def main() -> None:
    """Print for each width and batch how many times as fast a sparse layer is, by density."""
    for width in WIDTHS:
        for batch in BATCHES:
            # the layer is one of many, so its input has a gradient too
            x = torch.randn(batch, width, requires_grad=True)
            model = nn.Sequential(nn.Linear(width, width))
            advice = dnc_sparse.advise(
                model, x, density=DENSITIES, block=8, threads=1, budget_s=3, min_size=1
            )
            verdicts = (advice.layers[0].verdict(i) for i in range(len(DENSITIES)))
            print(f"{width} -> {width}, batch {batch}:", "; ".join(verdicts))


if __name__ == "__main__":
    main()

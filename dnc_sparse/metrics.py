"""How well a model does on a split."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dnc_sparse.data import Split


def evaluate(model: nn.Module, split: Split, batch_size: int = 256) -> float:
    """Return the fraction of samples the model classifies as labelled, in evaluation mode.

    Raises ValueError for a regression.
    """
    if split.is_regression:
        raise ValueError("targets of a regression have no accuracy; use relative_error")
    correct = torch.zeros((), dtype=torch.int64, device=split.y.device)
    for output, y in _outputs(model, split, batch_size):
        correct += (output.argmax(1) == y).sum()
    return correct.item() / max(1, len(split.y))


def relative_error(model: nn.Module, split: Split, batch_size: int = 256) -> float:
    """Return the mean squared error over the variance of the targets, in evaluation mode.

    Both are summed over the targets of a sample, so the result is 1 - R^2 of all of them together.
    Raises ValueError for classes.
    """
    if not split.is_regression:
        raise ValueError("classes have no squared error; use evaluate, the accuracy")
    squares = torch.zeros((), dtype=torch.float64, device=split.y.device)
    for output, y in _outputs(model, split, batch_size):
        squares += (output - y).double().square().sum()
    targets = split.y.double()
    return (squares / (targets - targets.mean(0)).square().sum()).item()


def _outputs(model: nn.Module, split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield output and y of each batch; the model is given its mode back at the end."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for x, y in zip(
                torch.split(split.x, batch_size), torch.split(split.y, batch_size), strict=True
            ):
                yield model(x), y
    finally:
        model.train(was_training)

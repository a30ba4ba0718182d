"""The linear layers that are asked about, and what stands against making each of them sparse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from dnc_sparse.advice.predict import Subject
from dnc_sparse.nn import candidates, readers
from dnc_sparse.nn.candidates import Candidate, Skip
from dnc_sparse.nn.wrapping import check_unwrapped
from dnc_sparse.patterns.blocks import Auto


def check_model(model: object) -> None:
    """Raise TypeError, ValueError or RuntimeError for what cannot be trained here."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"advise takes a model, an nn.Module; got a {type(model).__name__}")
    check_unwrapped(model, "advise")
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ValueError(
                f"{name!r} is lazy: it has no size before the model's first call; "
                f"call the model once on the example, then advise"
            )
        if parameter.is_meta:
            raise ValueError(
                f"{name!r} lies on the meta device, which computes nothing that could be timed; "
                f"build the model on the device that will train it"
            )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "the model has no parameter that is trained (requires_grad), so there is no training "
            "step to make faster"
        )
    if candidates.find(model) and candidates.find(model)[0].names == ("",):
        raise ValueError(
            f"the model is itself a {type(model).__name__}, which sparsify cannot replace in "
            f"place; put it into an nn.Sequential"
        )


def find(
    model: nn.Module, block: tuple[int, int] | Auto, skip: Skip, min_size: int, example: Any
) -> list[Subject]:
    """List the linear layers with what stands against making them sparse, as `sparsify` sees it.

    With an example the model is called on it once, to see whose weight other code reads. Raises
    RuntimeError when it does not run.
    """
    layers = candidates.find(model)
    read = _read(model, layers, example)
    # where each layer has a block of its own, 1x1 is among them
    candidates.leave_unfit(model, layers, (1, 1) if block == "auto" else block, pruned=False)
    candidates.leave_small(layers, min_size)
    taken = [layer.reason is None for layer in layers]
    candidates.leave_skipped(layers, skip)
    for layer in layers:
        reader = read.get(layer.layer)
        if layer.reason is None and reader is not None:
            layer.reason = f"its weight is read by {reader}"
    return [
        Subject(layer, reason=layer.reason, taken=fit)
        for layer, fit in zip(layers, taken, strict=True)
    ]


def _read(model: nn.Module, layers: Sequence[Candidate], example: Any) -> dict[nn.Module, str]:
    """Return who reads the weight of a layer, for those whose weight is read."""
    if example is None:
        return {}
    plain = [
        layer.layer for layer in layers if type(layer.layer) in (nn.Linear, candidates.conv1d())
    ]
    try:
        return readers.observe(model, plain, example).readers
    except Exception as error:
        raise RuntimeError(
            f"the model does not run on the example ({type(error).__name__}: {error}); an example "
            f"is a tuple of arguments, a mapping of keyword arguments, or the only argument"
        ) from error

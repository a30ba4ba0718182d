"""A training step of a model: forward, backward and the optimiser's step, as they are timed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dnc_sparse.nn import readers

Factory = Callable[[Sequence[nn.Parameter]], Optimizer]
# what one training step of a model does, with the optimiser of its parameters
Step = Callable[[nn.Module, Optimizer], object]

# so small that weights stay what they are while steps are timed
RATE = 1e-8


def adam(parameters: Sequence[nn.Parameter]) -> Optimizer:
    """Return fused Adam, the optimiser that is timed unless another is named."""
    return torch.optim.Adam(parameters, lr=RATE, fused=True)


def trainee(model: nn.Module) -> nn.Module:
    """Return a copy of the model to train, without gradients.

    A model in eval mode is copied into training mode; one in training mode keeps the mode of each
    part. Raises RuntimeError when the model cannot be copied.
    """
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        raise RuntimeError(
            f"the model cannot be copied ({type(error).__name__}: {error}), and advise trains a "
            f"copy of it, so that the model stays as it is; give it a model as its constructor "
            f"returns it"
        ) from error
    twin.zero_grad(set_to_none=True)
    return twin if twin.training else twin.train()


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """List the parameters that training changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def step_on(example: Any) -> Step:
    """Return a step on an example whose loss is that of the output, or stands in for one.

    An output with a `loss`, as those of transformers, is trained by it; else the first floating
    tensor in the output is given a random gradient, which costs what that of a loss does.
    """
    gradients: dict[tuple[int, ...], Tensor] = {}

    def step(model: nn.Module, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        output = readers.run(model, example)
        loss = getattr(output, "loss", None)
        if isinstance(loss, Tensor) and loss.requires_grad:
            torch.autograd.backward(loss)
        else:
            target = _target(output)
            shape = tuple(target.shape)
            if shape not in gradients:
                gradients[shape] = torch.randn_like(target) / max(target.numel(), 1) ** 0.5
            torch.autograd.backward(target, gradients[shape])
        optimizer.step()

    return step


def state_factor(optimizer: Optimizer) -> float:
    """Return the bytes of an optimiser's state over those of its parameters: 2 for Adam."""
    state = sum(
        value.numel() * value.element_size()
        for values in optimizer.state.values()
        for value in values.values()
        if isinstance(value, Tensor) and value.dim()
    )
    held: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    return float(state / max(sum(p.numel() * p.element_size() for p in held), 1))


def _target(output: object) -> Tensor:
    for tensor in _tensors(output):
        if tensor.is_floating_point() and tensor.requires_grad:
            return tensor
    raise ValueError(
        f"the model's output on the example, a {type(output).__name__}, has no floating tensor "
        f"that depends on its parameters, so nothing can be trained by it; "
        f"give step=, a function of (model, optimizer) that does a training step"
    )


def _tensors(output: object) -> Iterator[Tensor]:
    values: Sequence[object] = ()
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        values = list(output.values())
    elif isinstance(output, (tuple, list)):
        values = output
    elif is_dataclass(output):
        values = [getattr(output, field.name) for field in fields(output)]
    for value in values:
        yield from _tensors(value)

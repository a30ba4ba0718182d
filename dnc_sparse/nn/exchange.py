"""Put new layers into a model, all or none, with the optimisers that hold the old ones' weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from dnc_sparse.nn.convert import place
from dnc_sparse.nn.fused import avoid_fused_encoder
from dnc_sparse.nn.optimizers import Exchange
from dnc_sparse.nn.wrapping import check_bystanders


@dataclass
class Replacement:
    """A layer of a model, by all its names, and the one that takes its place.

    `move` maps the weight, and what belongs to it, from the old layer's shape to that of `holder`,
    the new layer or the part of it that holds the parameters.
    """

    names: tuple[str, ...]
    old: nn.Module
    new: nn.Module
    holder: nn.Module
    move: Callable[[Tensor], Tensor]

    @property
    def parameters(self) -> Iterator[tuple[str, nn.Parameter, nn.Parameter]]:
        """Each parameter's new name, the old one and the new one."""
        for name, old in self.old.named_parameters():
            name = name.removesuffix("_orig")
            yield name, old, self.holder.get_parameter(name)


def replace(
    model: nn.Module,
    replacements: Sequence[Replacement],
    optimizers: Sequence[Optimizer],
    *,
    keep: bool,
    verify: Callable[[], object] | None = None,
) -> None:
    """Put the new layers into the model and their parameters into the optimisers.

    `keep` says whether the new weights are the old ones, so that moments go over. `verify` is
    called with the new layers in place; when it raises, the old ones are put back.

    Raises RuntimeError, the model as it was, when a wrapper or another optimiser holds the old
    layers or a state cannot be carried over.
    """
    if replacements:
        _check_held(model, replacements, optimizers)
    exchange = _exchange(replacements, keep)
    states = [exchange.prepare(optimizer) for optimizer in optimizers]
    for one in replacements:
        place(model, one.names, one.new)
    if verify is not None:
        try:
            verify()
        except BaseException:
            for one in replacements:
                place(model, one.names, one.old)
            raise
    for optimizer, state in zip(optimizers, states, strict=True):
        exchange.apply(optimizer, state)
    avoid_fused_encoder(model)


def _check_held(
    model: nn.Module, replacements: Sequence[Replacement], optimizers: Sequence[Optimizer]
) -> None:
    targets = {id(one.old): one.names[0] for one in replacements}
    targets |= {id(p): one.names[0] for one in replacements for p in one.old.parameters()}
    exempt = {id(group) for optimizer in optimizers for group in optimizer.param_groups}
    check_bystanders(model, targets, exempt)


def _exchange(replacements: Sequence[Replacement], keep: bool) -> Exchange:
    exchange = Exchange(keep)
    for one in replacements:
        for name, old, new in one.parameters:
            exchange.add(old, new, one.move if name == "weight" else None)
    return exchange

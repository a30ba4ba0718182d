"""Exchange a model's old parameters for its new ones in the optimisers that hold them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from dnc_sparse.nn.roads import search

Move = Callable[[Tensor], Tensor]

_COUNTS = (bool, int, float, str, type(None))

# parameters that sparsify took out of a model while somebody still held them
_retired: dict[int, weakref.ref[nn.Parameter]] = {}


class Exchange:
    """The new parameter of each old one, with the function that maps a weight's entries.

    `keep` says whether new weights are the old ones, so that moments go over with them.
    """

    def __init__(self, keep: bool) -> None:
        self._keep = keep
        self._new: dict[int, tuple[nn.Parameter, nn.Parameter, Move | None]] = {}

    def add(self, old: nn.Parameter, new: nn.Parameter, move: Move | None) -> None:
        """Note a pair; without a function the two have the same entries, as biases do."""
        self._new[id(old)] = (old, new, move)

    @property
    def old(self) -> list[nn.Parameter]:
        """The parameters to be replaced."""
        return [pair[0] for pair in self._new.values()]

    def prepare(self, optimizer: Optimizer) -> dict[nn.Parameter, dict[str, Any]]:
        """Return the state of each new parameter; nothing is changed.

        Raises RuntimeError for a state whose parts cannot be told apart by weight, and for an
        optimiser that holds parameters outside its groups and state.
        """
        kind = type(optimizer).__name__
        lists = {id(group["params"]) for group in optimizer.param_groups}
        lists |= {id(optimizer.param_groups), id(optimizer.state)}
        lists |= {id(group) for group in optimizer.param_groups}
        targets = {key: pair[1] for key, pair in self._new.items()}
        if search(vars(optimizer).values(), targets, lists):
            raise RuntimeError(
                f"{kind} holds the weights to be replaced outside its groups too, where they "
                f"cannot be exchanged; build it after sparsify"
            )
        result = {}
        for old, new, move in self._new.values():
            state = optimizer.state.get(old)
            if state and self._keep:
                result[new] = {
                    key: _moved(f"{kind} keeps {key!r}", value, old, move)
                    for key, value in state.items()
                }
        return result

    def apply(self, optimizer: Optimizer, states: Mapping[nn.Parameter, dict[str, Any]]) -> None:
        """Put the new parameters, with their states, in the places of the old ones."""
        for group in optimizer.param_groups:
            params = group["params"]
            params[:] = [self._new[id(p)][1] if id(p) in self._new else p for p in params]
        for old in self.old:
            optimizer.state.pop(old, None)
        for new, state in states.items():
            optimizer.state[new] = state
        # L-BFGS counts its weights once
        if getattr(optimizer, "_numel_cache", None) is not None:
            optimizer._numel_cache = None  # type: ignore[attr-defined]


def _moved(what: str, value: Any, old: nn.Parameter, move: Move | None) -> Any:
    """Return what an optimiser keeps for a parameter in the shape of the new one."""
    if isinstance(value, _COUNTS):
        return value
    if isinstance(value, Tensor) and value.shape == old.shape and value.dim() > 0:
        return value if move is None else move(value)
    if isinstance(value, Tensor) and value.numel() == 1:
        return value
    kind = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
    raise RuntimeError(
        f"{what} ({kind}) for a weight of shape {list(old.shape)}, which has no part for each "
        f"edge; build the optimiser after sparsify"
    )


def as_optimizers(optimizer: Any) -> list[Optimizer]:
    """Return a list of optimisers from one, several, or None.

    Raises TypeError for anything else.
    """
    several = [optimizer] if isinstance(optimizer, Optimizer) or optimizer is None else optimizer
    if not isinstance(several, Sequence) or isinstance(several, str):
        several = [optimizer]
    result = [item for item in several if item is not None]
    for item in result:
        if not isinstance(item, Optimizer):
            raise TypeError(
                f"optimizer takes a torch.optim.Optimizer or a list of them; "
                f"got a {type(item).__name__}"
            )
    return result


def watch(old: Iterable[weakref.ref[nn.Parameter]]) -> None:
    """Make an optimiser raise that is to step with parameters no model uses any more.

    Only those are watched that somebody still holds: a list made before `sparsify`, for example,
    from which an optimiser may be built after it.
    """
    alive = [(parameter, ref) for ref in old if (parameter := ref()) is not None]
    if alive:
        _guard_steps()
    for parameter, ref in alive:
        _retired[id(parameter)] = ref


@cache
def _guard_steps() -> None:
    """Ask each optimiser of this process before its steps, from now on."""
    register_optimizer_step_pre_hook(_refuse_retired)


def _refuse_retired(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Raise RuntimeError when the optimiser holds a replaced parameter, which gets no gradient."""
    if not _retired or torch.compiler.is_compiling():
        return
    for key in [key for key, ref in _retired.items() if ref() is None]:
        del _retired[key]
    for group in optimizer.param_groups:
        for p in group["params"]:
            if id(p) in _retired and p.requires_grad and p.grad is None:
                raise RuntimeError(
                    f"{type(optimizer).__name__} holds a weight of shape {list(p.shape)} that "
                    f"sparsify has replaced: the list of parameters was made before. Make it from "
                    f"model.parameters() after sparsify"
                )

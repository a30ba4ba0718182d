"""Compact weights for backends that count on padded rows, and for states saved with them.

| name    | meaning                                 | shape                       |
|---------|-----------------------------------------|-----------------------------|
| compact | a weight as the pattern stores it       | [edge blocks, 1, bo, bi]    |
| padded  | the same in rows as long as the longest | [rows, slots, bo, bi]       |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from dnc_sparse.backends.capture import capturing, refusal
from dnc_sparse.patterns import Pattern
from dnc_sparse.patterns.sizes import MAX_INDEX

P = ParamSpec("P")
T = TypeVar("T")


def to_padded(weight: Tensor, pattern: Pattern) -> Tensor:
    """Return a weight in padded rows, empty slots zero; as it is unless the pattern is compact."""
    if not pattern.compact:
        return weight
    bo, bi = pattern.block
    padded = weight.new_zeros(pattern.padded.weight_shape)
    padded.view(-1, bo, bi)[_slots(pattern, weight.device)] = weight.reshape(-1, bo, bi)
    return padded


def from_padded(weight: Tensor, pattern: Pattern) -> Tensor:
    """Return a weight of padded rows as the pattern stores it; as it is unless that is compact."""
    if not pattern.compact:
        return weight
    bo, bi = pattern.block
    edges = weight.reshape(-1, bo, bi)[_slots(pattern, weight.device)]
    return edges.reshape(pattern.weight_shape)


def on_padded_rows(function: Callable[P, T]) -> Callable[P, T]:
    """Let a backend's function that counts on padded rows serve compact patterns too.

    Weights are padded on the way in and their gradients stripped on the way out, which takes the
    memory of the padded ones for that long. Raises RuntimeError where int32 cannot number those.
    """
    names = list(signature(function).parameters)
    at = names.index("pattern")

    @wraps(function)
    def served(*args: P.args, **kwargs: P.kwargs) -> T:
        pattern: Any = args[at] if at < len(args) else kwargs["pattern"]
        if not pattern.compact:
            return function(*args, **kwargs)
        if pattern.rows * pattern.slots > MAX_INDEX:
            raise RuntimeError(
                f"{pattern!r} has rows so uneven that {pattern.rows * pattern.slots:,} slots would "
                f"pad them, more than int32 numbers ({MAX_INDEX:,}), and this backend counts on "
                f"padded rows; run it on the CPU, or split its longest rows over several layers"
            )
        values: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
        values["pattern"] = pattern.padded
        if "weight" in values:
            values["weight"] = to_padded(values["weight"], pattern)
        # only names of the function's own parameters are passed on
        result: Any = function(**values)  # type: ignore[call-arg]
        if function.__name__ == "grad_weight":
            return from_padded(result, pattern)  # type: ignore[return-value]
        if function.__name__ == "backward":
            return (result[0], from_padded(result[1], pattern), result[2])  # type: ignore[return-value]
        stripped: T = result
        return stripped

    return served


def _slots(pattern: Pattern, device: torch.device) -> Tensor:
    """Flat padded slot of each edge block, kept with the pattern where it had to be sent."""

    def build() -> Tensor:
        if capturing(device):
            raise refusal(repr(pattern))
        return torch.from_numpy(pattern.padded.edge_slots).to(device)

    return build() if device.type == "cpu" else pattern.plan(("padded", str(device)), build)

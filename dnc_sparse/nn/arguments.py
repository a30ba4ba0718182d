"""What a whole network is asked for, checked before anything of it is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from dnc_sparse.patterns.memory import check_memory
from dnc_sparse.patterns.sizes import real, whole


def layer_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the layer sizes as ints.

    Raises TypeError for what is no sequence of whole numbers, ValueError for fewer than two layers
    and for one without neurons.
    """
    if isinstance(sizes, (str, bytes)) or not hasattr(sizes, "__iter__"):
        raise TypeError(
            f"layer sizes must be a sequence of whole numbers, such as (784, 512, 10); "
            f"got {sizes!r}"
        )
    result = tuple(whole("layer size", size) for size in sizes)
    if len(result) < 2:
        raise ValueError(f"a network needs at least two layer sizes, got {result}")
    if min(result) < 1:
        raise ValueError(
            f"layer sizes {', '.join(map(str, result))} hold a layer of {min(result)} neurons; "
            f"each needs at least 1"
        )
    return result


def network_density(density: Any) -> float | Sequence[float] | None:
    """Return one density as float, of any type that is a number, and anything else as it is.

    Raises TypeError for what is neither a number nor a sequence.
    """
    if density is None or (_is_sequence(density) and not isinstance(density, str)):
        return density
    return real("density", density)


def degrees(name: str, values: Any) -> Sequence[int] | None:
    """Return the degrees of a network's junctions as they are.

    Raises TypeError for what is no sequence of them.
    """
    if values is None or (_is_sequence(values) and not isinstance(values, (str, bytes))):
        return values
    raise TypeError(f"{name} takes one number per junction, such as ({values},); got {values!r}")


def share(name: str, value: Any) -> float:
    """Return a share of 0 to 1 as float; TypeError or ValueError, with its name, for others."""
    number = real(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must lie in 0..1, got {number:g}")
    return number


def activation_of(make: Callable[[], nn.Module]) -> nn.Module:
    """Return the module that `make` makes; TypeError for a module and for what makes none."""
    if isinstance(make, nn.Module) or not callable(make):
        raise TypeError(
            f"activation takes what makes a module, such as nn.ReLU or lambda: nn.GELU('tanh'); "
            f"got {make!r}"
        )
    try:
        made = make()
    except TypeError as error:
        raise TypeError(
            f"activation takes what makes a module, such as nn.ReLU; {make!r} cannot be called "
            f"without arguments: {error}"
        ) from error
    if not isinstance(made, nn.Module):
        raise TypeError(
            f"activation takes what makes a module, such as nn.ReLU; {make!r} made a "
            f"{type(made).__name__}"
        )
    return made


def check_dense(n_in: int, n_out: int) -> None:
    """Raise RuntimeError for a dense layer that this machine cannot hold."""
    # on the meta device layers take no memory, a GPU has its own
    if torch.get_default_device().type == "cpu":
        check_memory(
            f"a dense {n_in} -> {n_out} layer",
            4 * n_in * n_out,
            "choose fewer neurons, or a density below 1",
        )


def check_network(
    sizes: Sequence[int], density: float | None, fan_out: Sequence[int] | None
) -> None:
    """Raise ValueError or TypeError for a network that no data could be for."""
    checked = layer_sizes(sizes)
    if density is not None and not 0 < real("density", density) <= 1:
        raise ValueError(f"density must be above 0 and at most 1, got {density:g}")
    if fan_out is None:
        return
    if len(fan_out) != len(checked) - 1:
        raise ValueError(
            f"{len(checked)} layers have {len(checked) - 1} junctions but fan_out has "
            f"{len(fan_out)} numbers: {tuple(fan_out)}"
        )
    for (n_in, n_out), degree in zip(pairwise(checked), fan_out, strict=True):
        if not 0 < whole("fan_out", degree) <= n_out:
            raise ValueError(
                f"fan_out {degree} of a {n_in} -> {n_out} junction must be above 0 and at most "
                f"{n_out}"
            )


def _is_sequence(value: Any) -> bool:
    # a tensor without dimensions, or a number of numpy's, is a number
    return hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0

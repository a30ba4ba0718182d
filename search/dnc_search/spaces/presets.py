"""Deep-n-Cheap's own settings (github.com/souryadey/deep-n-cheap, defaults of its command line)."""

from __future__ import annotations

from typing import Any

from dnc_search.space import Space
from dnc_search.spaces import space_from

# log10 of the rate in -5..-1, of the decay in -6..-3 with its lowest decade standing for 0
TRAINING: dict[str, Any] = {
    "learning_rate": (1e-5, 1e-1),
    "weight_decay": (1e-6, 1e-3),
    "no_decay_below": 1e-5,
    "batch_log": False,
    "preset_learning_rate": 1e-3,
    "preset_batch_size": 256,
}
# the rule that ties weight decay to the number of parameters of a perceptron
DECAY: dict[str, tuple[float, int]] = {
    "mnist": (1e-9, 10_000),
    "fashion-mnist": (1e-9, 10_000),
    "rcv1": (1e-10, 100_000),
}


def faithful(name: str, data: str = "") -> Space:
    """Return the "mlp" or "cnn" space as Deep-n-Cheap searched it, on data of this name.

    The kernel is the paper's. Raises ValueError for another name.
    """
    if name not in ("mlp", "cnn"):
        raise ValueError(f"Deep-n-Cheap searched mlp and cnn spaces, not {name!r}")
    options = {**TRAINING, "kernel": "paper"}
    if name == "mlp":
        per_parameter, least = DECAY.get(data, (0.0, 0))
        options |= {"decay_per_parameter": per_parameter, "decay_from": least}
    return space_from(name, options)

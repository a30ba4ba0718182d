"""The kernel's components that several spaces share, made from the names in a configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dnc_search.kernel import Component, same_limits
from dnc_search.parameters import Config, Value

# any difference, however small a part of the range, is then a full one
ANY_DIFFERENCE = 1e-9


def number(name: str, low: float, high: float, *, log: bool = False) -> Component:
    """Compare one number; on a log scale what is below `low`, such as 0, counts as `low`."""

    def values(config: Config) -> tuple[float]:
        value = float(config[name])
        return (math.log(max(value, low)) if log else value,)

    return _between(name, values, low, high, log)


def layers(name: str, count: str, low: float, high: float, *, log: bool = False) -> Component:
    """Compare `name_1`, `name_2`, ... layer by layer; `count` names how many there are."""

    def values(config: Config) -> tuple[float, ...]:
        numbers = numbered(config, name, count)
        return tuple(math.log(max(value, low)) for value in numbers) if log else numbers

    return _between(name, values, low, high, log)


def choice(name: str, options: Sequence[Value]) -> Component:
    """Compare one choice: equal, or as far apart as can be."""
    return Component(
        name,
        lambda config: (float(options.index(config[name])),),
        same_limits(0.0, len(options) - 1.0),
        lambda layer: ANY_DIFFERENCE,
    )


def numbered(config: Config, name: str, count: str) -> tuple[float, ...]:
    """Return `name_1`, `name_2`, ... of a configuration, as many as its `count` says.

    Raises ValueError when one is missing.
    """
    names = [f"{name}_{i}" for i in range(1, int(config[count]) + 1)]
    missing = [each for each in names if each not in config]
    if missing:
        raise ValueError(
            f"a configuration with {count} {config[count]} also needs {', '.join(missing)}; "
            f"it has {', '.join(config)}"
        )
    return tuple(float(config[each]) for each in names)


def _between(
    name: str, values: Callable[[Config], Sequence[float]], low: float, high: float, log: bool
) -> Component:
    limits = (math.log(low), math.log(high)) if log else (low, high)
    return Component(name, values, same_limits(*limits))

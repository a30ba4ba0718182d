"""The families of patterns by name, and the patterns that are alive by key."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec
from weakref import WeakValueDictionary

from dnc_sparse.patterns.sizes import whole

if TYPE_CHECKING:
    from dnc_sparse.patterns.pattern import Pattern

P = ParamSpec("P")

# patterns kept for programs that know them by key only; more junctions than that in one exported
# program are rebuilt at each call
KEPT_REBUILDS = 256
WHOLE_ARGUMENTS = ("n_in", "n_out", "fan_in", "fan_out", "banks", "kind", "seed")

_FAMILIES: dict[str, Callable[..., Pattern]] = {}
_ALIVE: WeakValueDictionary[str, Pattern] = WeakValueDictionary()


def family(build: Callable[P, Pattern]) -> Callable[P, Pattern]:
    """Make a function known to `Pattern.from_spec` under its own name.

    Its sizes, degrees, banks and seed may be integers of any type (numpy's too): it gets int. What
    does not fit in memory is a RuntimeError that says how much was asked for.
    """
    signature = inspect.signature(build)

    @wraps(build)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Pattern:
        given = signature.bind(*args, **kwargs)
        for name in WHOLE_ARGUMENTS:
            if name not in given.arguments:
                continue
            value = given.arguments[name]
            if value is not None or signature.parameters[name].default is not None:
                given.arguments[name] = whole(name, value)
        try:
            return build(*given.args, **given.kwargs)
        except MemoryError as error:
            sizes = " -> ".join(str(given.arguments[side]) for side in ("n_in", "n_out"))
            raise RuntimeError(
                f"a {build.__name__} pattern {sizes} cannot be drawn in the memory of this machine "
                f"({error}); choose a lower density or a larger block"
            ) from error

    _FAMILIES[build.__name__] = drawn
    return drawn


def rebuild(spec: Mapping[str, Any]) -> Pattern:
    """Draw the pattern of a spec: see `Pattern.from_spec`."""
    arguments = dict(spec)
    name = arguments.pop("family", None)
    if name not in _FAMILIES:
        known = ", ".join(sorted(_FAMILIES))
        raise ValueError(f"unknown pattern family {name!r}; known families: {known}")
    try:
        return _FAMILIES[name](**arguments)
    except TypeError as error:
        raise ValueError(f"spec of a {name!r} pattern does not fit it: {error}") from error


def register(key: str, pattern: Pattern) -> None:
    """Make a pattern the one that `alive` finds, unless an equal one is."""
    _ALIVE.setdefault(key, pattern)


def alive(key: str) -> Pattern:
    """Return the live pattern with this key, or rebuild it and keep it for the next call."""
    return _ALIVE.get(key) or _rebuilt(key)


@lru_cache(maxsize=KEPT_REBUILDS)
def _rebuilt(key: str) -> Pattern:
    pattern = rebuild(json.loads(key))
    register(key, pattern)
    return pattern

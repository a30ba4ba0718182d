"""Options of a space, from a command line or a ledger, checked against the fields of its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints


def checked_options(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as the fields of a class want them, lists as tuples.

    Raises ValueError for a name that is no field, and for a value of another type.
    """
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else []
    unknown = [name for name in options if name not in names]
    if unknown:
        raise ValueError(
            f"{kind.__name__} has no option {', '.join(unknown)}; "
            f"its options are {', '.join(names) or 'none'}"
        )
    hints = get_type_hints(kind)
    return {name: _fitted(name, value, hints[name]) for name, value in options.items()}


def _fitted(name: str, value: Any, hint: Any) -> Any:
    """Return the value, lists made tuples and whole numbers made floats where those are wanted."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, (list, tuple)):
        wanted = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(wanted) == len(value):
            return tuple(_fitted(name, v, h) for v, h in zip(value, wanted, strict=True))
    elif origin is Literal:
        if value in inner:
            return value
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif hint in (int, str, bool) and type(value) is hint:
        return value
    elif hint not in (int, float, str, bool) and origin is not tuple:
        # a type of the user's own class, which checks it itself
        return value
    raise ValueError(f"option {name} must be {_described(hint)}, got {value!r}")


def _described(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) is tuple:
        first, *others = get_args(hint)
        return f"{'a list' if Ellipsis in others else 'two'}, each {words.get(first, first)}"
    return words[hint]

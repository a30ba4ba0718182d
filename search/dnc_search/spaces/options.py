"""Options of a space, from a command line or a ledger, checked against the fields of its class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from fractions import Fraction
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def checked_options(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as the fields of a class want them, lists as tuples.

    Raises ValueError for a name that is no field, and for a value of another type.
    """
    hints = _hints(kind, options)
    return {name: _fitted(name, value, hints[name]) for name, value in options.items()}


def read_options(kind: type, texts: Iterable[str]) -> dict[str, Any]:
    """Return the options that a command line gives as name=value, such as "density=1/64,1".

    Raises ValueError for a text without "=", a name given twice, and as `checked_options`.
    """
    options: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"an option of the space is written name=value, got {text!r}")
        if name in options:
            raise ValueError(f"option {name} is given twice: {options[name]} and {value}")
        options[name] = value
    hints = _hints(kind, options)
    return checked_options(kind, {n: _read(value, hints[n]) for n, value in options.items()})


def _hints(kind: type, names: Iterable[str]) -> dict[str, Any]:
    known = [field.name for field in fields(kind)] if is_dataclass(kind) else []
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{kind.__name__} has no option {', '.join(unknown)}; "
            f"its options are {', '.join(known) or 'none'}"
        )
    return get_type_hints(kind)


def _read(text: str, hint: Any) -> Any:
    """Return what a text stands for, or the text itself where it is nothing of that type."""
    if get_origin(hint) is tuple:
        return [_read(part.strip(), get_args(hint)[0]) for part in text.split(",") if part.strip()]
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if get_origin(hint) is UnionType or get_origin(hint) is Union:
        read = (_read(text, kind) for kind in get_args(hint))
        return next((value for value in read if value != text), text)
    if hint in (int, float):
        try:
            return int(text) if hint is int else float(Fraction(text))
        except (ValueError, ZeroDivisionError):
            return text
    return text


def _fitted(name: str, value: Any, hint: Any) -> Any:
    """Return the value, lists made tuples and whole numbers made floats where those are wanted."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, (list, tuple)):
        wanted = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(wanted) == len(value):
            return tuple(_fitted(name, v, h) for v, h in zip(value, wanted, strict=True))
    elif origin in (UnionType, Union):
        for kind in inner:
            with suppress(ValueError):
                return _fitted(name, value, kind)
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
        values = ", ".join(map(str, get_args(hint)))
        return values if len(get_args(hint)) == 1 else f"one of {values}"
    if get_origin(hint) in (UnionType, Union):
        return " or ".join(map(_described, get_args(hint)))
    if get_origin(hint) is tuple:
        first, *others = get_args(hint)
        count = "" if Ellipsis in others else f" of {1 + len(others)}"
        return f"a list{count}, each {_described(first)}"
    return words[hint]

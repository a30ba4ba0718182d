"""Models of the user's own: a function in a file or a module, named as model.py:build."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from dnc_sparse.user_module import load_file, running


def build(target: str) -> tuple[nn.Module, Any]:
    """Return the model that the named function builds, and its example, None where it has none.

    `target` is path/to/file.py:function or package.module:function; what is named is run, with the
    folder of the file, or the present one, on the path of modules. Raises ValueError when the file
    or the function is missing, when either fails, and when the result is neither a model nor
    (model, example).
    """
    place, function = _split(target)
    with _on_path(place.parent if isinstance(place, Path) else Path.cwd()):
        module = _module(place)
        found = getattr(module, function, None)
        if found is None or not callable(found):
            problem = "no such function" if found is None else f"a {type(found).__name__}"
            raise ValueError(f"{target}: {function} is {problem}; there: {_functions(module)}")
        result = _called(found, target)
    model, example = result if _is_pair(result) else (result, None)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{target} returned a {type(model).__name__}, which is no nn.Module; "
            f"return the model, or (model, example)"
        )
    return model, example


def _split(target: str) -> tuple[Path | str, str]:
    # a path may hold colons itself
    place, _, function = target.rpartition(":")
    if not place or not function.isidentifier():
        raise ValueError(
            f"a model is named as path/to/file.py:function or package.module:function, "
            f"got {target!r}"
        )
    if not place.endswith(".py"):
        return place, function
    file = Path(place).expanduser().resolve()
    if not file.is_file():
        raise ValueError(f"the file of the model is not there: {file}; name one that exists")
    return file, function


def _module(place: Path | str) -> ModuleType:
    if isinstance(place, str):
        with running(place):
            return importlib.import_module(place)
    with running(place.name):
        return load_file(place, "dnc_sparse_model")


def _called(function: Callable[[], Any], target: str) -> Any:
    try:
        return function()
    except Exception as error:
        raise ValueError(
            f"{target} failed: {type(error).__name__}: {error}; it is called without arguments, "
            f"and returns the model, or (model, example)"
        ) from error


def _is_pair(result: object) -> bool:
    return isinstance(result, tuple) and len(result) == 2


def _functions(module: ModuleType) -> str:
    """List the functions that a module defines itself."""
    return (
        ", ".join(
            name
            for name, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        )
        or "none"
    )


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Let modules of a folder be imported, as those beside a script are."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))

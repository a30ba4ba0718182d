"""Spaces of the user's own: a subclass of `Space` in a file, named as path/to/file.py:ClassName."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

from dnc_search.space import Space
from dnc_sparse.user_module import load_file, running


def load_class(name: str) -> type[Space]:
    """Return the class that "path/to/file.py:ClassName" names; its file is run.

    Raises ValueError when the file is missing or fails, has no such class, or that is no `Space`.
    """
    path, class_name = _split(name)
    with running(str(path)):
        module = load_file(path, "dnc_search_space")
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not issubclass(found, Space):
        spaces = [
            n for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, Space)
        ]
        there = ", ".join(n for n in spaces if n != "Space") or "none"
        problem = "no such class" if found is None else "not a subclass of dnc_search.space.Space"
        raise ValueError(f"{class_name} of {path}: {problem}; spaces in that file: {there}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ValueError(f"{class_name} of {path} lacks {missing}; define them")
    return found


def source_of(kind: type[Space]) -> tuple[str, str]:
    """Return the name by which `load_class` finds a class, and the digest of its file.

    Raises ValueError for a class that was not read from a file.
    """
    try:
        path = Path(inspect.getfile(kind)).resolve()
    except (TypeError, OSError) as error:
        raise ValueError(
            f"{kind.__name__} was not read from a file, so no worker could rebuild it; "
            f"put the class into one"
        ) from error
    name = f"{path}:{kind.__qualname__}"
    return name, file_digest(name)


def file_digest(name: str) -> str:
    """Return the sha256 of the file of "path/to/file.py:ClassName"."""
    return hashlib.sha256(_split(name)[0].read_bytes()).hexdigest()


def _split(name: str) -> tuple[Path, str]:
    # a path may hold colons itself
    path, _, class_name = name.rpartition(":")
    if not path.endswith(".py") or not class_name.isidentifier():
        raise ValueError(f"a space of your own is named as path/to/file.py:ClassName, got {name!r}")
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise ValueError(f"the file of the space is not there: {file}; name one that exists")
    return file, class_name

"""The spaces by name, from options and back, so that any worker can rebuild one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from dnc_search.space import Space
from dnc_search.spaces.check import check_space
from dnc_search.spaces.cnn import Cnn
from dnc_search.spaces.mlp import Mlp
from dnc_search.spaces.options import checked_options, read_options
from dnc_search.spaces.sparse_mlp import SparseMlp
from dnc_search.spaces.user import file_digest, load_class, source_of

__all__ = [
    "SPACES",
    "Cnn",
    "Mlp",
    "SparseMlp",
    "check_space",
    "earlier_defaults",
    "space_from",
    "space_from_record",
    "space_from_texts",
    "space_record",
]

SPACES: dict[str, type[Space]] = {"mlp": Mlp, "sparse-mlp": SparseMlp, "cnn": Cnn}

# what options were before they existed, or before their default changed
EARLIER: dict[str, dict[str, Any]] = {"sparse-mlp": {"blocks": [1]}}


def space_from(name: str, options: Mapping[str, Any] | None = None) -> Space:
    """Return the space of a name in `SPACES`, or of "path/to/file.py:ClassName".

    `options` are the fields of its class, lists standing for tuples. Raises ValueError for an
    unknown name, an unknown option, one of another type, and whatever the class refuses; and as
    `user.load_class`.
    """
    kind = _class_of(name)
    return kind(**checked_options(kind, options or {}))


def space_from_texts(name: str, texts: Iterable[str]) -> Space:
    """Return the space of a name, with options as a command line gives them: "nodes=16,512".

    Raises as `space_from`, and ValueError for a text without "=" and an option given twice.
    """
    kind = _class_of(name)
    return kind(**read_options(kind, texts))


def space_record(space: Space) -> dict[str, Any]:
    """Return what rebuilds a space, as it comes back from JSON: its name and options.

    For a class of the user's own the name is its file and class, and the file's digest is beside
    it. Raises ValueError for a class that was not read from a file, and for fields that are not
    plain.
    """
    fields: dict[str, Any] = asdict(space) if is_dataclass(space) else {}
    try:
        options = json.loads(json.dumps(fields))
    except TypeError as error:
        raise ValueError(
            f"the fields of {type(space).__name__} must be plain values, which JSON holds: {error}"
        ) from error
    for name, kind in SPACES.items():
        if type(space) is kind:
            return {"name": name, "options": options}
    name, digest = source_of(type(space))
    return {"name": name, "options": options, "sha256": digest}


def earlier_defaults(name: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a space that a record `before` has from another default than today's.

    A search that goes on keeps them, unless it is told another value.
    """
    options = before["options"]
    return {
        option: value
        for option, value in EARLIER.get(name, {}).items()
        if before["name"] == name and options.get(option, value) == value
    }


def space_from_record(record: Mapping[str, Any], file: Path | None = None) -> Space:
    """Rebuild the space of a record; `file` is the user's file where it lies elsewhere here.

    Raises as `space_from`, and ValueError when the user's file is not the one of the record.
    """
    name = str(record["name"])
    if "sha256" in record:
        if file is not None:
            name = f"{file}:{name.rpartition(':')[2]}"
        found = file_digest(name)
        if found != record["sha256"]:
            raise ValueError(
                f"{name.rpartition(':')[0]} has changed since the search began (sha256 "
                f"{found[:12]} instead of {record['sha256'][:12]}); restore it, or begin another "
                f"search"
            )
    return space_from(name, {**EARLIER.get(name, {}), **record["options"]})


def _class_of(name: str) -> type[Space]:
    if name in SPACES:
        return SPACES[name]
    if ":" not in name:
        raise ValueError(
            f"unknown space {name!r}; choose one of {', '.join(SPACES)}, "
            f"or a class of your own as path/to/file.py:ClassName"
        )
    return load_class(name)

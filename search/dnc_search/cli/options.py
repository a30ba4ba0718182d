"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dnc_search.ledger import Ledger, check_url, sqlite_url

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of the search: its ledger, and the weights it found."),
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="URL of the ledger where it is not in --out, such as postgresql://user@machine/base.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option("--name", help="Name of the search in the ledger; by default that of --out."),
]
DEFAULT_NAME = "search"


def data_path(data: str) -> str:
    """Return the name of a data set, of a file by its full path, for workers elsewhere."""
    return str(Path(data).resolve()) if data.endswith(".npz") else data


def storage_url(storage: str | None, out: Path | None) -> str:
    """Return the URL of the ledger that the options name.

    Raises ValueError for neither, and as `check_url`.
    """
    if storage is not None:
        check_url(storage)
        return storage
    if out is None:
        raise ValueError("say where the search is: --out with its folder, or --storage with a URL")
    return sqlite_url(out)


def search_name(name: str | None, out: Path | None) -> str:
    """Return the name of the search: that of its folder where none was given."""
    if name is not None:
        return name
    return out.resolve().name if out is not None else DEFAULT_NAME


def open_ledger(
    storage: str | None, out: Path | None, name: str | None, *, read_only: bool = False
) -> Ledger:
    """Return the ledger that the options name, which is there. Raises as `Ledger`."""
    url = storage_url(storage, out)
    return Ledger(url, search_name(name, out), read_only=read_only, create=False)


def shares(texts: list[str] | None) -> dict[str, float]:
    """Read the shares of the penalty, NAME or NAME=SHARE. Raises ValueError."""
    if not texts:
        return {"parameters": 1.0}
    result = {}
    for text in texts:
        name, equals, share = text.partition("=")
        try:
            result[name] = float(share) if equals else 1.0
        except ValueError as error:
            raise ValueError(
                f"--penalty takes NAME or NAME=SHARE, such as parameters=0.5; got {text!r}"
            ) from error
    return result

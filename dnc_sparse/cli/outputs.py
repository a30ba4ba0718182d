"""Where results go is checked before the work that leads to them; callbacks of output options.

Each check tries to write there: nothing else shows a disk that is read-only, or a name that is too
long.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile

import typer

from dnc_sparse.checkpoint import make_folder
from dnc_sparse.extras import check_matplotlib

# what tells that a folder is a program's: files or folders that no other program writes there
MARKS = {
    "dnc-sparse compare": ("comparison.json", "results.jsonl"),
    "dnc-sparse front": ("front.json", "runs.jsonl"),
    "dnc-sparse train": ("seed-*/config.json",),
    "dnc-hw sweep": ("results.csv", "results"),
    "dnc-search": ("ledger.db",),
}


def to_file(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return the path of a file that can be written.

    Raises RuntimeError for a folder, a device and a place where nothing can be written.
    """
    if path is None:
        return None
    name = _option(parameter)
    try:
        if path.is_dir():
            raise RuntimeError(f"{name} {path} is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise RuntimeError(f"{name} {path} is a device; name a file that can be replaced")
        path.parent.mkdir(parents=True, exist_ok=True)
        # the very name that the file has while it is written
        trial = path.with_name(path.name + ".tmp")
        trial.open("ab").close()
        trial.unlink()
    except OSError as error:
        raise RuntimeError(
            f"{name} {path} cannot be written: {error.strerror or error}; name another place"
        ) from error
    return path


def to_picture(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return the path of a picture that can be drawn and written.

    Raises ValueError for a suffix that matplotlib does not know, ImportError without matplotlib,
    and as `to_file`.
    """
    if path is None:
        return None
    kinds = _kinds()
    to_file(parameter, path)
    if path.suffix[1:].lower() not in kinds:
        seen = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise ValueError(
            f"{_option(parameter)} {path} has {seen}, which says the kind of picture; "
            f"choose among {', '.join(f'.{kind}' for kind in sorted(kinds))}"
        )
    return path


def to_folder(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return the path of a folder that files can be written into; one that is missing stays so.

    Raises RuntimeError for a file and a place where nothing can be written.
    """
    if path is None:
        return None
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        make_folder(path)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise RuntimeError(
            f"{_option(parameter)} {path} cannot be written into: {error.strerror or error}; "
            f"name another folder"
        ) from error
    finally:
        # a command that is refused leaves nothing behind
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
    return path


def to_pictures(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return the path of a folder for pictures. Raises ImportError without matplotlib, and as
    `to_folder`.
    """
    if path is not None:
        _kinds()
    return to_folder(parameter, path)


def refuse_others(folder: Path, program: str) -> None:
    """Raise RuntimeError when another program of `MARKS` has its results in the folder.

    Two of them in one folder would lose or mix results: their files share names.
    """
    for other, marks in MARKS.items():
        if other == program:
            continue
        for mark in marks:
            if any(folder.glob(mark)):
                raise RuntimeError(
                    f"{folder} holds results of {other} ({mark}); "
                    f"name another folder for those of {program}"
                )


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files of these names, which an earlier command may have left."""
    for name in names:
        with suppress(FileNotFoundError):
            (folder / name).unlink()


def _kinds() -> set[str]:
    """Return the suffixes, without the dot, that pictures can have."""
    check_matplotlib()
    canvas = import_module("matplotlib.backends.backend_agg").FigureCanvasAgg
    return set(canvas.get_supported_filetypes())


def _option(parameter: typer.CallbackParam) -> str:
    """How the user wrote the option, with two dashes."""
    return max(parameter.opts, key=len)

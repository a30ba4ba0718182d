"""Find a published file, or download it; its sha256 is checked either way.

Looked through in this order: the folder given, the folder named by the environment variable
DNC_DATA, the cache of earlier downloads, the public mirror.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

ENVIRONMENT = "DNC_DATA"
# how urllib3 begins an error: with the connection it happened on
_OBJECT = re.compile(r"^(<[^>]*>|\w+\(host=[^)]*\)): ")
MOST_OF_A_CAUSE = 120


@dataclass(frozen=True)
class DataFile:
    """One published file: the folder it is kept in, its checksum, the URL of that folder's mirror.

    `mirror` is None where no public host has the file in this form.
    """

    folder: str
    name: str
    sha256: str
    mirror: str | None = None


def find_file(
    file: DataFile,
    data_dir: Path | str | None = None,
    *,
    mirror: str | None = None,
    download: bool = True,
) -> Path:
    """Return the path of a file whose checksum is right, downloading it where allowed and needed.

    `data_dir` holds the file itself or in a folder named `file.folder`; `mirror` replaces the
    public base URL. Raises ValueError for a local file with another checksum and FileNotFoundError
    when the file is nowhere or its download fails; both name the file, the checksum and the ways
    out.
    """
    path = local_path(file, data_dir)
    if path is not None:
        found = _sha256(path)
        if found != file.sha256:
            raise ValueError(
                f"{path} is damaged or not the {file.folder} file: expected sha256 {file.sha256}, "
                f"found {found}; replace it with the published file, or {_download_way_out(file)}"
            )
        return path
    cached = _cached(file)
    if cached.is_file() and _sha256(cached) == file.sha256:
        return cached
    base = mirror or file.mirror
    if base is None:
        raise FileNotFoundError(f"{_nowhere(file, data_dir)}; no public host offers it")
    if not download:
        raise FileNotFoundError(
            f"{_nowhere(file, data_dir)}, or allow the download (download=True)"
        )
    return _download(file, f"{base.rstrip('/')}/{file.name}", data_dir)


def local_path(file: DataFile, data_dir: Path | str | None = None) -> Path | None:
    """Return where a folder given or named by DNC_DATA has the file, unchecked; None if nowhere.

    Raises FileNotFoundError for a folder that does not exist, NotADirectoryError for a file.
    """
    for origin, folder in folders(data_dir):
        if folder.is_file():
            raise NotADirectoryError(
                f"data folder {folder} ({origin}) is a file; give the folder that holds "
                f"{file.folder}/{file.name}, or none to download"
            )
        if not folder.is_dir():
            raise FileNotFoundError(
                f"data folder {folder} ({origin}) does not exist; "
                f"give the folder that holds {file.folder}/{file.name}, or none to download"
            )
        for path in (folder / file.folder / file.name, folder / file.name):
            if path.is_file():
                return path
    return None


def is_cached(file: DataFile) -> bool:
    """Whether an earlier download of the file is kept."""
    return _cached(file).is_file()


def _download(file: DataFile, url: str, data_dir: Path | str | None) -> Path:
    # commands that need no data run without it
    import pooch

    cached = _cached(file)
    try:
        with _quiet():
            pooch.retrieve(
                url,
                known_hash=f"sha256:{file.sha256}",
                fname=cached.name,
                path=cached.parent,
                downloader=pooch.HTTPDownloader(chunk_size=1 << 20),
            )
    except (OSError, ValueError) as error:
        # requests' errors are OSErrors; pooch raises ValueError for another checksum
        raise FileNotFoundError(
            f"cannot download {url} ({_cause(error)}); try again, or put {file.folder}/{file.name} "
            f"(sha256 {file.sha256}) into a folder given by data_dir (--data-dir) or {ENVIRONMENT}"
        ) from error
    return cached


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what pooch says before it knows whether there is anything to download."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _cause(error: Exception) -> str:
    """Return the innermost reason of a failed download, without the objects that it went through.

    requests wraps what urllib3 wrapped: a pool, its retries, a connection.
    """
    inner: Any = error
    while True:
        deeper = getattr(inner, "reason", None)
        if not isinstance(deeper, Exception):
            deeper = next((a for a in inner.args if isinstance(a, Exception)), None)
        if deeper is None:
            break
        inner = deeper
    text = _OBJECT.sub("", " ".join(str(inner).split()))
    return f"{type(error).__name__}: {shorten(text, MOST_OF_A_CAUSE, placeholder='...')}"


def folders(data_dir: Path | str | None) -> Iterator[tuple[str, Path]]:
    if data_dir is not None:
        yield "data_dir", Path(data_dir)
    named = os.environ.get(ENVIRONMENT)
    if named:
        yield ENVIRONMENT, Path(named)


def _cached(file: DataFile) -> Path:
    import pooch

    return Path(pooch.os_cache("dnc-sparse")) / file.folder / file.name


def _nowhere(file: DataFile, data_dir: Path | str | None) -> str:
    searched = [f"{origin} {folder}" for origin, folder in folders(data_dir)]
    return (
        f"{file.folder}/{file.name} (sha256 {file.sha256}) not found in "
        f"{', '.join(searched) or f'a data folder (none given, {ENVIRONMENT} not set)'}; "
        f"put it into a folder given by data_dir (--data-dir) or {ENVIRONMENT}"
    )


def _download_way_out(file: DataFile) -> str:
    if file.mirror is None:
        return "point to a folder that has it (no public host offers it)"
    return "remove it so that it is downloaded"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

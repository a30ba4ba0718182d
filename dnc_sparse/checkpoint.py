"""Files that are either whole or not there: atomic writes, and the checkpoint of a training run.

Writing files needs no torch, so that the commands of the simulator do without.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

MARK = b"\ndnc-sparse checkpoint 1 sha256 "


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content`, or leave it exactly as it was.

    The bytes go to `<name>.tmp` beside it and reach the disk before the name changes, so a kill or
    a power cut at any moment leaves the old file or the new one. Raises RuntimeError when the file
    cannot be written (a full disk, no permission).
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        kept = "what it held before is untouched" if path.exists() else "nothing was there before"
        raise RuntimeError(
            f"cannot write {path}: {error.strerror or error}; {kept}; "
            f"make room or permission there and run again"
        ) from error
    _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make the folder, and those above it, unless it is there.

    Raises RuntimeError when that cannot be: a file has its name, no permission.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if path.is_file() else error.strerror or error
        raise RuntimeError(
            f"cannot use {path} as a folder: {reason}; name another folder"
        ) from error


def _sync_folder(folder: Path) -> None:
    # the new name itself must survive a power cut; Windows cannot open folders
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, record: Any) -> None:
    """Write `record` as indented JSON, atomically. Raises as `write_atomic`."""
    write_atomic(path, (json.dumps(record, indent=2) + "\n").encode())


def write_weights(path: Path, model: nn.Module) -> None:
    """Write a model's state as safetensors, readable without pickle. Raises as `write_atomic`."""
    import safetensors.torch

    state = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in model.state_dict().items()
    }
    write_atomic(path, safetensors.torch.save(state))


def append_line(path: Path, line: str) -> None:
    """Append one line and bring it to the disk. Raises RuntimeError when it cannot be written."""
    try:
        with path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RuntimeError(
            f"cannot append to {path}: {error.strerror or error}; "
            f"make room or permission there and run again"
        ) from error


def pack(record: dict[str, Any]) -> bytes:
    """Serialise a checkpoint in memory: a torch archive, then its SHA-256.

    A failing disk then shows as an OSError of a plain write, not inside torch's archive writer, and
    damage shows when reading: torch itself checks no sums. `torch.load` reads the file too.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(record, buffer)
    archive = buffer.getvalue()
    return archive + _digest(archive)


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint written from `pack`; its tensors are on the CPU.

    Nothing but tensors and plain containers is unpickled. Raises FileNotFoundError when there is
    none, ValueError when the file is not one of ours or is not as it was written.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; start the run without resuming")
    content = path.read_bytes()
    size = len(_digest(b""))
    archive, digest = content[:-size], content[-size:]
    if digest != _digest(archive):
        what = (
            "is damaged: its contents do not match the checksum it ends with"
            if digest.startswith(MARK)
            else "is truncated, or was not written by dnc-sparse: it does not end with a checksum"
        )
        raise ValueError(
            f"{path} ({len(content)} bytes) {what}; "
            f"restore it from a copy, or delete it and start the run again"
        )
    import torch

    record: dict[str, Any] = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
    return record


def _digest(archive: bytes) -> bytes:
    return MARK + hashlib.sha256(archive).hexdigest().encode()

"""Results as JSON lines that are appended as they come, so that a run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from dnc_sparse import checkpoint


class Row(Protocol):
    """A dataclass of plain values whose `key` tells it apart."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def key(self) -> str: ...


R = TypeVar("R", bound=Row)


class Ledger(Generic[R]):
    """Results as JSON lines; a line cut short by a kill is dropped, its run is done again.

    Raises ValueError for any other line that is not a result of this type.
    """

    def __init__(self, path: Path, row_type: type[R]) -> None:
        self.path = path
        self.results: dict[str, R] = {}
        lines = path.read_text().split("\n") if path.exists() else [""]
        # what follows the last line end was being written when the process died
        for number, line in enumerate(lines[:-1], start=1):
            try:
                result = row_type(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"{path}:{number} is not a result ({error}); "
                    f"delete that line, or give another folder"
                ) from error
            self.results[result.key] = result
        if lines[-1]:
            kept = "".join(line + "\n" for line in lines[:-1])
            checkpoint.write_atomic(path, kept.encode())

    def add(self, result: R) -> None:
        """Append a result. Raises RuntimeError when it cannot be written."""
        checkpoint.append_line(self.path, json.dumps(asdict(result)))
        self.results[result.key] = result


def key_of(record: Sequence[Any]) -> str:
    """Return sixteen hex digits that tell JSON-able records apart."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]

"""The folder of one training run: its settings, history, checkpoint and final weights.

| file                | content                                                        |
|---------------------|----------------------------------------------------------------|
| config.json         | the settings and what was trained on                           |
| history.jsonl       | one line per epoch, appended as training goes                  |
| checkpoint.pt       | model, optimiser and history after the last checkpointed epoch |
| weights.safetensors | the model's state after the last epoch                         |
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Collection
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dnc_sparse import checkpoint
from dnc_sparse.data import DataSet
from dnc_sparse.network_record import difference

# a run may be watched more closely without becoming another run
FREE_TO_CHANGE = ("eval_every",)
# the setting that is a digest of all samples
DATA_DIGEST = "data_sha256"
# what a checkpoint holds
PARTS = ("settings", "model", "optimizer", "history")


class RunFolder:
    """Writes a run as it goes and restores it.

    `settings` is a flat JSON-able record that a resumed run must share, `FREE_TO_CHANGE` and the
    names in `free_to_change` apart. `DATA_DIGEST` in it knows the data by their contents; a run of
    an older release has none, and its data cannot be told from others.
    `epochs_saved` counts the epochs in the checkpoint on disk. Raises FileExistsError when the
    folder already holds a run and `resume` is False, RuntimeError when it cannot be made.
    """

    def __init__(
        self,
        path: Path,
        settings: dict[str, Any],
        *,
        resume: bool,
        free_to_change: Collection[str] = (),
    ) -> None:
        self.path = path
        self.checkpoint_path = path / "checkpoint.pt"
        self._free = {*FREE_TO_CHANGE, *free_to_change}
        self._settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.epochs_saved = 0
        self._pending: dict[str, Any] | None = None
        held = [name for name in ("checkpoint.pt", "config.json") if (path / name).exists()]
        if held and not resume:
            raise FileExistsError(
                f"{path} already holds a run ({', '.join(held)}); "
                f"continue it with resume=True (--resume), or name another folder"
            )
        checkpoint.make_folder(path)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        """Load the checkpoint, if there is one, and return the history so far, one row an epoch.

        Raises ValueError when the checkpoint is damaged or belongs to another run or model.
        """
        rows: list[dict[str, Any]] = []
        if self.checkpoint_path.exists():
            record = checkpoint.read(self.checkpoint_path)
            self._check_parts(record)
            self._check_settings(record["settings"])
            try:
                model.load_state_dict(record["model"])
                optimizer.load_state_dict(record["optimizer"])
            except (RuntimeError, ValueError) as error:
                changed = difference(record["model"], model.state_dict())
                if changed is not None:
                    raise ValueError(
                        f"{self.checkpoint_path} was written with {changed}; "
                        f"resume with the same settings, or start in another folder"
                    ) from error
                raise ValueError(
                    f"{self.checkpoint_path} holds another model: {' '.join(str(error).split())}; "
                    f"build the model as it was, or start in another folder"
                ) from error
            rows = record["history"]
        self.epochs_saved = len(rows)
        checkpoint.write_json(self.path / "config.json", self._settings)
        # epochs after the checkpoint will be trained again
        self._write_history(rows)
        return rows

    def _check_parts(self, record: dict[str, Any]) -> None:
        missing = [part for part in PARTS if part not in record]
        if missing:
            raise ValueError(
                f"{self.checkpoint_path} is not the checkpoint of a run: it lacks "
                f"{', '.join(missing)}; move it away, or name another folder"
            )

    def _check_settings(self, before: dict[str, Any]) -> None:
        if DATA_DIGEST in self._settings and DATA_DIGEST not in before:
            warnings.warn(
                f"{self.checkpoint_path} was written by an older release, which did not keep what "
                f"its data contain; make sure that they are the same",
                stacklevel=2,
            )
            before = {**before, DATA_DIGEST: self._settings[DATA_DIGEST]}
        unknown = [name for name in self._settings if name not in before]
        if unknown:
            raise ValueError(
                f"{self.checkpoint_path} was written by an older release, which had no "
                f"{', '.join(unknown)}; finish the run with that release, or start in another "
                f"folder"
            )
        changed = [
            _changed(name, before[name], value)
            for name, value in self._settings.items()
            if name not in self._free and before[name] != value
        ]
        if changed:
            raise ValueError(
                f"{self.checkpoint_path} was written with {'; '.join(changed)}; "
                f"resume with the same settings, or start in another folder"
            )

    def record(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        rows: list[dict[str, Any]],
        *,
        write: bool,
    ) -> None:
        """Add the last row to the history and keep a checkpoint, on disk if `write`."""
        now = self._record(model, optimizer, rows)
        # training goes on in the same tensors
        self._pending = now if write else deepcopy(now)
        if write:
            self.flush()
        checkpoint.append_line(self.path / "history.jsonl", json.dumps(rows[-1]))

    def amend(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, rows: list[dict[str, Any]]
    ) -> None:
        """Write the history and the checkpoint again, without another epoch."""
        self._pending = self._record(model, optimizer, rows)
        self.flush()
        self._write_history(rows)

    def flush(self) -> None:
        """Write the last recorded checkpoint unless it is on disk already."""
        if self._pending is not None:
            checkpoint.write_atomic(self.checkpoint_path, checkpoint.pack(self._pending))
            self.epochs_saved = len(self._pending["history"])
            self._pending = None

    def _record(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, rows: list[dict[str, Any]]
    ) -> dict[str, Any]:
        states = (model.state_dict(), optimizer.state_dict())
        return dict(zip(PARTS, (self._settings, *states, rows), strict=True))

    def _write_history(self, rows: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        checkpoint.write_atomic(self.path / "history.jsonl", lines.encode())

    def finish(self, model: nn.Module) -> None:
        """Write the weights alone, readable without pickle."""
        checkpoint.write_weights(self.path / "weights.safetensors", model)


def _changed(name: str, before: object, now: object) -> str:
    if name == DATA_DIGEST:
        return f"data of other contents (sha256 {str(before)[:12]}, now {str(now)[:12]})"
    return f"{name} {before!r}, now {now!r}"


def digest(data: DataSet) -> str:
    """Return the SHA-256 of all samples of a data set, of every split."""
    found = hashlib.sha256()
    for name, split in data.splits.items():
        for tensor in (split.x, split.y):
            found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()

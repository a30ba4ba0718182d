"""What the ledger holds of a candidate: enough to judge it again under any w_c."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dnc_search.parameters import Config

State = Literal["complete", "stopped", "failed"]


@dataclass(frozen=True)
class Record:
    """One evaluated candidate.

    `stage` and `slot` say where in the search it stands, slots counted from 0 in each stage.
    `measures` holds what was measured, by name: `error` (1 - validation accuracy, or the
    validation mean squared error over the variance of the targets) and every complexity. A
    candidate `stopped` early has the error it had then; one that `failed` says why and has no
    measures but those known without training. `curve` is the validation error after each epoch,
    `proxies` are figures of the untrained network (`dnc_search.proxies`).
    """

    stage: str
    slot: int
    config: Config
    state: State
    measures: Mapping[str, float]
    curve: tuple[float, ...] = ()
    seconds: float = 0.0
    failure: str | None = None
    worker: str = ""
    proxies: Mapping[str, float] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Epochs of training spent on it."""
        return len(self.curve)

    @property
    def error(self) -> float:
        """Validation error; that of a candidate that failed is 1."""
        return self.measures.get("error", 1.0)

    @property
    def key(self) -> str:
        """What two equal configurations have in common."""
        return config_key(self.config)


def config_key(config: Config) -> str:
    """Return a text that equal configurations share, whatever the order of their names."""
    return json.dumps(dict(config), sort_keys=True)

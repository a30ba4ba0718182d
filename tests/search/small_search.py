"""Commands on a small search that really trains."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dnc_search.cli import main

SMALL = (
    *("--epochs", "2", "--initial", "2", "--steps", "1", "--final-seeds", "1", "--wc", "0,1"),
    *("--space-option", "nodes=4,16", "--space-option", "hidden_layers=0,1", "--threads", "1"),
    *("--space-option", "dropouts=0.0,0.2", "--space-option", "activations=relu"),
)


def command(data: Path, out: Path, *more: str) -> list[str]:
    return ["run", "--data", str(data), "--out", str(out), *SMALL, *more]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-c", f"from dnc_search.cli import main; main({list(arguments)!r})"]

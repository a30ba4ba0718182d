"""What the data of a search ask for, in words for its beginning."""

from __future__ import annotations

from dnc_sparse.cli import options
from dnc_sparse.data import DataSet


def tell_task(data: DataSet) -> None:
    """Say what is to be learnt of how much."""
    kind, what = "classification", "classes"
    if data.is_regression:
        kind, what = "regression", "target" if data.n_outputs == 1 else "targets"
    parts = ", ".join(f"{len(split)} {part}" for part, split in data.splits.items())
    line = (
        f"{data.name}: {kind}, {data.n_outputs} {what}, {data.n_features} features; {parts} samples"
    )
    options.console().print(line, highlight=False, soft_wrap=True)

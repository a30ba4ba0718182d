"""What the data of a search ask for, in words for its beginning."""

from __future__ import annotations

from dnc_sparse.cli import options, shell
from dnc_sparse.data import DataSet

# more whole numbers than this are seldom classes
MOST_CLASSES = 100


def tell_task(data: DataSet) -> None:
    """Say what is to be learnt of how much, with a warning where classes came as numbers."""
    kind, what = "classification", "classes"
    if data.is_regression:
        kind, what = "regression", "target" if data.n_outputs == 1 else "targets"
    parts = ", ".join(f"{len(split)} {part}" for part, split in data.splits.items())
    line = (
        f"{data.name}: {kind}, {data.n_outputs} {what}, {data.n_features} features; {parts} samples"
    )
    options.console().print(line, highlight=False, soft_wrap=True)
    if not data.is_regression:
        return
    found = set(data.train.y.flatten().tolist())
    if len(found) <= MOST_CLASSES and all(value >= 0 and value % 1 == 0 for value in found):
        shell.complain(
            f"warning: y is floating point, so this is a regression, but it holds only "
            f"{len(found)} whole numbers; if they are classes, store y as integers, [samples]",
            "yellow",
        )

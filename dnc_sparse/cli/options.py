"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from dnc_sparse.patterns.blocks import Auto

if TYPE_CHECKING:
    from dnc_sparse.experiment import Task

FILE_WIDTH = 110
Number = TypeVar("Number", int, float)

DataName = Annotated[
    str,
    typer.Option(
        "--data",
        help="Data set: morse-1.0 to morse-4.4, mnist, fashion-mnist, reuters-r8, 20-newsgroups, "
        "glyphs, or the path of your own .npz (x_train, y_train, x_test, y_test).",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder with the data files; otherwise the folder in DNC_DATA, then a download.",
    ),
]
DataOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--data-option",
        metavar="NAME=VALUE",
        help="An option of the data set, such as samples_per_class=1000; may be repeated.",
    ),
]
Layers = Annotated[
    str,
    typer.Option(
        "--layers",
        help="Neurons of each layer, input to output, such as 800,100,10. A first layer wider "
        "than the data is fed zeros.",
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="paper (Adam, decay 1e-5, batch 256, 50 epochs) or morse (Adam, batch 128, "
        "30 epochs); by default the one published with the data set.",
    ),
]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Instead of the recipe's.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Instead of the recipe's.")]
LearningRate = Annotated[
    float | None, typer.Option("--learning-rate", help="Instead of the recipe's.")
]
JoinValidation = Annotated[
    bool,
    typer.Option("--join-validation", help="Train on the validation split too, if there is one."),
]
Seeds = Annotated[
    int, typer.Option("--seeds", min=1, help="Runs, with seeds 0, 1, ...; each draws new patterns.")
]
Banks = Annotated[
    int | None,
    typer.Option("--banks", help="Banks of clash_free and cyclic patterns; by default chosen."),
]
BlockText = Annotated[
    str,
    typer.Option(
        "--block",
        help="Edges come in dense blocks: outputs x inputs, such as 4x4. auto: for a density 8x8 "
        "where the sizes and the density allow it, else 4x4, else 1; 1 for exact degrees.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads of torch; by default its own choice."),
]


def console() -> Console:
    """Return a console on standard output as it is now; files and pipes get room for tables.

    Brackets are text to it: paths, reasons and `pip install 'dnc-sparse[plot]'` have some.
    """
    console = Console(markup=False)
    return console if console.is_terminal else Console(width=FILE_WIDTH, markup=False)


def numbers(
    text: str, option: str, kind: Callable[[str], Number], example: str | None = None
) -> tuple[Number, ...]:
    """Read numbers with commas between. Raises ValueError, naming the option and an example."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        example = example or ("800,100,10" if kind is int else "0.5,0.25")
        raise ValueError(
            f"{option} takes numbers with commas between, such as {example}; got {text!r}"
        ) from error


def block(text: str) -> tuple[int, int] | Auto:
    """Read a block, `4`, `4x2` or `auto`. Raises ValueError."""
    if text == "auto":
        return "auto"
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ValueError(
            f"--block takes auto, one number or outputs x inputs, such as 4x2; got {text!r}"
        )
    return int(sides[0]), int(sides[-1])


def pairs(texts: Sequence[str] | None) -> dict[str, Any]:
    """Read NAME=VALUE options; a value is JSON where it can be, text otherwise."""
    result: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"--data-option takes NAME=VALUE, such as features=2000; got {text!r}")
        try:
            result[name] = json.loads(value)
        except json.JSONDecodeError:
            result[name] = value
    return result


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def task(
    data: str,
    data_dir: Path | None,
    data_options: list[str] | None,
    recipe: str | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    join_validation: bool,
) -> Task:
    """Return the task that the shared options describe."""
    # torch comes with it, which `dnc-hw` does not need
    from dnc_sparse.experiment import Task, default_recipe

    return Task(
        data=data,
        recipe=recipe or default_recipe(data),
        data_dir=None if data_dir is None else str(data_dir),
        options=pairs(data_options),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        join_validation=join_validation,
    )


def set_threads(threads: int | None, jobs: int = 1) -> int:
    """Give torch this many threads, if told, and return how many it has.

    Warns as `warn_of_threads` unless there are several `jobs`, which have one each.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    used = torch.get_num_threads()
    if jobs == 1:
        warn_of_threads(used)
    return used


def warn_of_threads(threads: int) -> None:
    """Warn when so many threads will wait for cores: more than there are, or than are free.

    They then wait for each other too, and training is 10 to 100 times slower than with one. One
    thread takes its turns with other work and is never warned of.
    """
    from dnc_sparse import machine

    if threads == 1:
        return
    cores = machine.cores()
    if threads > cores:
        warnings.warn(
            f"{threads} threads on {cores} core{'s' * (cores > 1)} wait for each other; "
            f"--threads {cores} is faster",
            stacklevel=2,
        )
        return
    busy = machine.busy_cores()
    # half a core is what a desktop does beside
    free = max(1, round(cores - busy))
    if threads > free:
        warnings.warn(
            f"other work keeps {busy:.1f} of {cores} cores busy: {threads} threads wait for each "
            f"other, 10 to 100 times slower; stop that work, or give --threads {free}",
            stacklevel=2,
        )

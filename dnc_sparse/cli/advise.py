"""`dnc-sparse advise`: which layers of a model would gain from sparsity on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from dnc_sparse.advice import advise as advise_on
from dnc_sparse.advice.timing import Progress as Report
from dnc_sparse.cli import model_file, options, outputs

BATCH = 256


def advise(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODEL.py:build",
            help="A function without arguments, in a file or as package.module:function, that "
            "returns the model, or (model, example).",
        ),
    ],
    density: Annotated[
        str, typer.Option(help="Densities to try, a column each, such as 0.5,0.25,0.125.")
    ] = "0.125",
    block: options.BlockText = "auto",
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Samples, for a model that begins with a linear layer [{BATCH}]."
        ),
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--input", help="Sizes of a random input, such as 256x784.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Sizes of an input of random tokens, such as 8x128.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(help="Layers that stay dense, by name or glob; repeatable.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Make a copy sparse as advised, and time its step too.")
    ] = False,
    threads: options.Threads = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_file: Annotated[
        Path | None,
        typer.Option("--json", callback=outputs.to_file, help="Write everything to this file."),
    ] = None,
) -> None:
    """Say which layers of a model would gain from sparsity on this machine, and by how much.

    A copy of the model is trained for a few steps, each linear layer is timed by itself, dense and
    sparse, and the training step to expect is told, with the line of code that makes the model so.
    Accuracy is not measured.

    **Examples**

    dnc-sparse advise model.py:build --density 0.25,0.125

    dnc-sparse advise package.module:make_model --input 256x784 --threads 1 --json advice.json
    """
    densities = options.numbers(density, "--density", float)
    place = _device(device)
    model, example = model_file.build(target)
    model = model.to(place)
    if example is None:
        example = _example(model, target, batch, shape, tokens)
    elif any(option is not None for option in (batch, shape, tokens)):
        raise ValueError(
            f"{target} returns an example of its own, so --batch, --input and --tokens have no "
            f"use; leave them out"
        )
    with _progress() as progress:
        advice = advise_on(
            model,
            _moved(example, place),
            density=densities,
            block=options.block(block),
            skip=skip or (),
            threads=threads,
            check=check,
            progress=progress,
        )
    options.console().print(str(advice), highlight=False, soft_wrap=True)
    if json_file is not None:
        advice.to_json(json_file)


def _example(
    model: nn.Module, target: str, batch: int | None, shape: str | None, tokens: str | None
) -> Tensor:
    """Return a random input of the sizes asked for, or of those that the first layer takes."""
    if (batch is not None) + (shape is not None) + (tokens is not None) > 1:
        raise ValueError("--batch, --input and --tokens say the same thing; give one of them")
    first = next((m for m in model.modules() if next(m.parameters(False), None) is not None), None)
    weight = None if first is None else next(first.parameters(False))
    place: dict[str, Any] = {"device": None if weight is None else weight.device}
    if tokens is not None:
        words = next((m for m in model.modules() if isinstance(m, nn.Embedding)), None)
        if words is None:
            raise ValueError("--tokens is for models with an nn.Embedding; give --input")
        return torch.randint(words.num_embeddings, _sizes(tokens, "--tokens"), **place)
    dtype = weight.dtype if weight is not None and weight.is_floating_point() else torch.float32
    if shape is not None:
        return torch.randn(_sizes(shape, "--input"), dtype=dtype, **place)
    width = getattr(first, "in_features", None)
    if not isinstance(width, int):
        raise ValueError(
            f"{target} returns no example, and its first layer ({type(first).__name__}) does not "
            f"tell what it takes; give --input 8x3x224x224 or --tokens 8x128, or return "
            f"(model, example)"
        )
    return torch.randn(batch or BATCH, width, dtype=dtype, **place)


def _sizes(text: str, option: str) -> tuple[int, ...]:
    parts = text.split("x")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"{option} takes sizes with x between, such as 8x128; got {text!r}")
    return tuple(map(int, parts))


def _device(name: str) -> torch.device:
    try:
        place = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device takes cpu or cuda; got {name!r}") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no GPU here; use cpu")
    if place.type not in ("cpu", "cuda"):
        raise ValueError(f"--device takes cpu or cuda; got {name!r}")
    return place


def _moved(example: Any, place: torch.device) -> Any:
    """Return an example with its tensors on a device."""
    if isinstance(example, Tensor):
        return example.to(place)
    if isinstance(example, dict):
        return {name: _moved(value, place) for name, value in example.items()}
    if type(example) in (tuple, list):
        return type(example)(_moved(value, place) for value in example)
    return example


@contextmanager
def _progress() -> Iterator[Report | None]:
    """Show a bar of the rounds on a terminal; nothing elsewhere."""
    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("timing layers", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

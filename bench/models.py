"""Make the models of other libraries sparse, one after the other, and write down what happens.

    python bench/models.py --out runs/models [--only 'timm/*,torch/*'] [--page docs/models.md]

Each model is built with random weights, made sparse with blocks of several sizes, run and timed
beside itself dense. `results.jsonl` in the folder holds a line for each; the same command goes on
where it was interrupted. `--page` puts the table into a page, between two marks.
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from model_zoo import Model, models

from dnc_sparse import conversion_report, sparsify
from dnc_sparse.processor import processor

MARKS = ("<!-- models -->\n", "<!-- end of models -->\n")
LIBRARIES = ("torch", "torchvision", "timm", "transformers")
# rounds of steps: at least so many, then more until the time is up
ROUNDS, SECONDS = 3, 3.0


def main(
    out: Annotated[
        Path, typer.Option(help="Folder of results.jsonl; kept lines are not redone.")
    ] = Path("runs/models"),
    only: Annotated[str, typer.Option(help="Names or globs of models, separated by commas.")] = "*",
    density: Annotated[float, typer.Option(help="Of each layer that is replaced.")] = 1 / 8,
    blocks: Annotated[str, typer.Option(help="Sides of blocks, separated by commas.")] = "1,8",
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    page: Annotated[Path | None, typer.Option(help="Page to put the table into.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only list the models.")] = False,
) -> None:
    """Try models, or list them."""
    chosen = select(only)
    if listed:
        typer.echo("\n".join(model.full_name for model in chosen))
        return
    sides = tuple(int(side) for side in blocks.split(","))
    settings = {"density": density, "blocks": list(sides), "threads": threads, **versions()}
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.jsonl"
    results = {row["model"]: row for row in read(file) if row["settings"] == settings}
    for i, model in enumerate(chosen):
        if model.full_name not in results:
            typer.echo(f"[{i + 1}/{len(chosen)}] {model.full_name} ... ", nl=False)
            row = {**attempt(model, density, sides), "settings": settings}
            with file.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            results[model.full_name] = row
            typer.echo(summary(row))
    rows = [results[model.full_name] for model in chosen]
    text = table(rows, sides)
    (out / "models.md").write_text(text)
    if page is not None:
        put(page, f"{heading(settings)}\n\n{text}")
    failed = [row["model"] for row in rows if row["error"]]
    typer.echo(f"{len(rows)} models, {len(failed)} failed{': ' * bool(failed)}{', '.join(failed)}")
    raise typer.Exit(1 if failed else 0)


def select(only: str) -> list[Model]:
    """Return the models with a name that fits one of the globs.

    Raises typer.BadParameter for a glob that fits none.
    """
    zoo, chosen = list(models()), []
    for glob in only.split(","):
        fitting = [m for m in zoo if fnmatchcase(m.full_name, glob) or m.name == glob]
        if not fitting:
            raise typer.BadParameter(f"no model is named {glob!r}; --list shows those there are")
        chosen += [model for model in fitting if model not in chosen]
    return [model for model in zoo if model in chosen]


def attempt(model: Model, density: float, sides: Sequence[int]) -> dict[str, Any]:
    """Return what happened to a model, an error as its text."""
    try:
        return {"error": None, **measured(model, density, sides)}
    except Exception as error:
        # one model that fails must not end the others; the error is in the table and the exit code
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return {"model": model.full_name, "error": text}


def measured(model: Model, density: float, sides: Sequence[int]) -> dict[str, Any]:
    """Make a model sparse with each block and time a training step of all, taking turns."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        # the libraries' own deprecations, and densities rounded to those that a small layer has
        warnings.simplefilter("ignore")
        dense, inputs = model.build(), model.inputs()
        candidates, reports = {"dense": dense}, {}
        for side in sides:
            sparse = copy.deepcopy(dense)
            candidates[str(side)] = sparsify(sparse, density, block=side, example=inputs)
            reports[side] = conversion_report(sparse)
        finite = {name: bool(call(m, inputs).isfinite().all()) for name, m in candidates.items()}
        seconds = step_seconds(candidates, inputs)
    return {
        "model": model.full_name,
        "parameters": {
            name: sum(p.numel() for p in m.parameters()) for name, m in candidates.items()
        },
        "linear_weights": reports[sides[0]].weights_before,
        "layers": len(reports[sides[0]].rows),
        "replaced": {str(side): len(report.replaced) for side, report in reports.items()},
        "left": {str(side): reasons(report) for side, report in reports.items()},
        "finite": finite,
        "step_seconds": seconds,
    }


def reasons(report: Any) -> dict[str, int]:
    """Count the layers that stayed dense by the reason, without names and numbers of one layer."""
    notes = (row.note for row in report.rows if not row.replaced)
    return dict(Counter(_general(note.removeprefix("left dense: ")) for note in notes))


def _general(reason: str) -> str:
    reason = re.sub(r"^[\d,]+ weights, fewer than .*", "small", reason)
    return re.sub(r"'[^']*'", "another module", reason)


def call(model: nn.Module, inputs: Any) -> Tensor:
    """Return the model's output, or the first tensor with a gradient in it."""
    output = model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)
    return next(tensor for tensor in _tensors(output) if tensor.is_floating_point())


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)


def step_seconds(candidates: Mapping[str, nn.Module], inputs: Any) -> dict[str, float]:
    """Time forward and backward of each candidate: the fastest of several rounds by turns."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end = time.perf_counter() + SECONDS
    while len(times["dense"]) <= ROUNDS or time.perf_counter() < end:
        for name, model in candidates.items():
            start = time.perf_counter()
            call(model, inputs).float().square().mean().backward()
            times[name].append(time.perf_counter() - start)
            model.zero_grad()
    # the first call plans and allocates
    return {name: min(seconds[1:]) for name, seconds in times.items()}


def summary(row: Mapping[str, Any]) -> str:
    """Return what a row says in a line."""
    if row["error"]:
        return f"FAILED: {row['error']}"
    steps = ", ".join(f"{name} {1e3 * s:.1f} ms" for name, s in row["step_seconds"].items())
    replaced = "/".join(map(str, row["replaced"].values()))
    return f"{replaced} of {row['layers']} layers replaced; step {steps}"


def table(rows: Sequence[Mapping[str, Any]], sides: Sequence[int]) -> str:
    """Return the rows as a table in Markdown."""
    sized = [f"{side}x{side}" for side in sides]
    steps = [f"step {name}, ms" for name in ("dense", *sized)]
    header = [
        "model",
        "parameters",
        *(f"sparse {s}" for s in sized),
        "layers",
        *(f"replaced {s}" for s in sized),
        f"left dense at {sized[-1]}",
        *steps,
    ]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        if row["error"]:
            lines.append([row["model"], f"failed: {row['error']}", *[""] * (len(header) - 2)])
            continue
        left = "; ".join(f"{count}: {why}" for why, count in row["left"][str(sides[-1])].items())
        infinite = [name for name, finite in row["finite"].items() if not finite]
        lines.append(
            [
                row["model"],
                *(_short(row["parameters"][name]) for name in ("dense", *map(str, sides))),
                str(row["layers"]),
                *(str(row["replaced"][str(side)]) for side in sides),
                left + f" (NOT FINITE: {', '.join(infinite)})" * bool(infinite),
                *(f"{1e3 * s:.1f}" for s in row["step_seconds"].values()),
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _short(number: int) -> str:
    return f"{number / 1e6:.2f} M"


def heading(settings: Mapping[str, Any]) -> str:
    """Return the machine, the versions and the settings in a sentence."""
    libraries = ", ".join(f"{name} {settings[name]}" for name in LIBRARIES if name in settings)
    return (
        f"{processor()}; {libraries}; {settings['threads']} thread(s), "
        f"density {settings['density']:g}; the fastest of at least {ROUNDS} steps, by turns "
        f"(load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)."
    )


def versions() -> dict[str, str]:
    """Return the versions of the libraries that models come from."""
    from importlib.util import find_spec

    return {name: version(name) for name in LIBRARIES if find_spec(name) is not None}


def read(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of results; none when it does not exist."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def put(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page.

    Raises ValueError for a page without both marks.
    """
    before, start, rest = page.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (start and end):
        raise ValueError(f"{page} lacks the lines {MARKS[0]!r} and {MARKS[1]!r}; add both to it")
    page.write_text(f"{before}{start}{text}{end}{after}")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    typer.run(main)

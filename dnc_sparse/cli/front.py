"""`dnc-sparse front`: accuracy against cost, wide sparse networks beside narrow dense ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from dnc_sparse import checkpoint, machine
from dnc_sparse.cli import options, outputs
from dnc_sparse.front import figure, report
from dnc_sparse.front.costs import Cost, measure_all
from dnc_sparse.front.networks import Network, dense_networks, sparse_networks
from dnc_sparse.front.runs import FrontTask, Run, train_all
from dnc_sparse.ledger import Ledger
from dnc_sparse.progress import Steps

Out = Annotated[
    Path,
    typer.Option(
        "--out",
        callback=outputs.to_folder,
        help="Folder for runs.jsonl, costs.jsonl, front.json and front.png.",
    ),
]


def front(
    data: options.DataName,
    dense: Annotated[
        str, typer.Option(help="Widths of the dense networks' hidden layers.")
    ] = "64,128,256,512",
    sparse: Annotated[
        str, typer.Option(help="Widths of the sparse networks' hidden layers.")
    ] = "256,512,1024,2048",
    density: Annotated[
        str, typer.Option(help="Densities of the sparse networks, the last layer is dense.")
    ] = "1/4,1/8,1/16",
    block: Annotated[
        str, typer.Option(help="Sides of the square blocks that edges come in, such as 8 or 8,4,1.")
    ] = "8",
    hidden_layers: Annotated[int, typer.Option(min=1, help="Hidden layers.")] = 2,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of every training.")] = 8,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 256,
    rates: Annotated[
        str, typer.Option(help="Learning rates that every network tries on validation samples.")
    ] = "0.001,0.002,0.004,0.008",
    seeds: options.Seeds = 5,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings at a time, one thread each; by default all cores."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that times are measured with.")] = 1,
    memory: Annotated[
        bool, typer.Option(help="Whether peak memory is measured: a process for each network.")
    ] = True,
    out: Out = Path("runs/front"),
    data_dir: options.DataDir = None,
    data_option: options.DataOptions = None,
) -> None:
    """Ask whether wide sparse networks beat narrow dense ones, at equal time, size and memory.

    Every network tries the same learning rates (Adam, cosine schedule) with part of the training
    samples held back for validation, and is then trained with its best rate on all of them, once a
    seed; only these runs are tested. Seconds are measured afterwards, all networks in turn. Sparse
    networks with more weights than the largest dense one are left out.

    Finished runs are kept in OUT and not done again: the same command goes on after an
    interruption, and further widths, densities, rates or seeds add to it.

    **Examples**

    dnc-sparse front --data fashion-mnist

    dnc-sparse front --data my.npz --dense 32,64,128 --sparse 128,256,512 --density 1/4,1/8
    """
    task = FrontTask(
        data=data,
        epochs=epochs,
        batch_size=batch_size,
        rates=tuple(sorted(set(options.numbers(rates, "--rates", float)))),
        seeds=seeds,
        threads=threads,
        data_dir=None if data_dir is None else str(data_dir),
        options=options.pairs(data_option),
    )
    widths = options.numbers(dense, "--dense", int), options.numbers(sparse, "--sparse", int)
    shape = task.load(final=True)
    networks = choose(
        dense_networks(widths[0], hidden_layers),
        sparse_networks(
            *(widths[1], fractions(density), options.numbers(block, "--block", int)),
            hidden_layers,
            shape.n_features,
        ),
        (shape.n_features, shape.n_outputs),
    )
    show_front(task, networks, out, jobs or machine.cores(), memory=memory)


def fractions(text: str) -> list[float]:
    """Read densities such as 1/4,0.125. Raises ValueError."""
    try:
        return [float(Fraction(part)) for part in text.split(",")]
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"--density takes numbers or fractions with commas between, such as 1/4,1/8; "
            f"got {text!r}"
        ) from error


def choose(
    dense: Sequence[Network], sparse: Sequence[Network], ends: tuple[int, int]
) -> list[Network]:
    """Return the networks to train: sparse ones no larger than the largest dense one.

    Raises ValueError when no dense or no sparse network is left.
    """
    most = max((network.edges(*ends) for network in dense), default=0)
    small = [network for network in sparse if network.edges(*ends) <= most]
    if not dense or not small:
        raise ValueError(
            f"a front needs dense and sparse networks, got {len(dense)} and {len(small)}: of "
            f"{len(sparse)} sparse ones that exist, those above {most:,} weights are left out; "
            f"choose other widths, densities or blocks"
        )
    return [*dense, *small]


def show_front(
    task: FrontTask, networks: Sequence[Network], out: Path, jobs: int, *, memory: bool
) -> None:
    """Run what the ledgers in `out` lack, then write and show what came out."""
    console = options.console()
    checkpoint.make_folder(out)
    outputs.refuse_others(out, "dnc-sparse front")
    _refuse_other_task(task, networks, out)
    runs = Ledger(out / "runs.jsonl", Run)
    if runs.results:
        console.print(f"{runs.path} holds {len(runs.results)} finished runs", highlight=False)
    with Steps("training") as steps:

        def report_run(run: Run, done: int, total: int) -> None:
            what = "test" if run.final else "validation"
            steps.step(
                f"{run.network}, rate {run.rate:g}, seed {run.seed}: "
                f"{what} {100 * run.accuracy:.2f} %",
                *(done, total),
            )

        trained = train_all(task, networks, runs, jobs=jobs, report=report_run)
    with Steps("measuring") as steps:
        costs = measure_all(
            *(task, networks, Ledger(out / "costs.jsonl", Cost)),
            jobs=jobs,
            memory=memory,
            report=steps.step,
        )
    rows = report.points(task, trained, costs)
    title = (
        f"{task.data}, {networks[0].depth} hidden layers, {task.epochs} epochs, "
        f"{task.seeds} seeds, {task.threads} thread{'s' * (task.threads > 1)}"
    )
    console.print(report.table(rows, title))
    console.print(
        "* on its front in seconds, chosen by validation; ! the best rate is the smallest or "
        "largest tried; ± 95 % interval of the mean",
        style="dim",
    )
    for line in report.sentences(task, rows):
        console.print(line, highlight=False)
    checkpoint.write_json(out / "front.json", report.record(task, rows, machine.describe()))
    written = [out / "front.json"]
    # an earlier one would be of other networks
    outputs.remove(out, ["front.png"])
    if find_spec("matplotlib") is None:
        console.print("no figure: it needs matplotlib, pip install 'dnc-sparse[plot]'")
    else:
        figure.draw(rows, title, out / "front.png")
        written.append(out / "front.png")
    console.print(f"written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True)


def _refuse_other_task(task: FrontTask, networks: Sequence[Network], out: Path) -> None:
    """Raise RuntimeError when `out` has the front of another task, which would be replaced."""
    path = out / "front.json"
    if not path.exists():
        return
    try:
        before = json.loads(path.read_text())
        seen = {name: before["task"][name] for name in ("data", "options", "epochs")}
        seen["hidden layers"] = before["points"][0]["network"]["depth"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise RuntimeError(
            f"{path} is no front of dnc-sparse ({error!r}); name another folder"
        ) from error
    now = {"data": task.data, "options": task.options, "epochs": task.epochs}
    now["hidden layers"] = networks[0].depth
    changed = [f"{name} {seen[name]}, now {now[name]}" for name in now if now[name] != seen[name]]
    if changed:
        raise RuntimeError(
            f"{path} is the front of another task: {'; '.join(changed)}; name another folder"
        )

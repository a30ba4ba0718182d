"""`dnc-sparse train`: train one network, once or with several seeds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from dnc_sparse import checkpoint, machine
from dnc_sparse.cli import options, outputs
from dnc_sparse.compare_report import accuracy_text
from dnc_sparse.experiment import Version
from dnc_sparse.nn import SparseLinear, SparseMLP
from dnc_sparse.stats import mean_interval
from dnc_sparse.training import fit


def train(
    data: options.DataName,
    layers: options.Layers,
    density: Annotated[
        float | None, typer.Option(help="Edges of the whole network / those of the dense one.")
    ] = None,
    fan_out: Annotated[
        str | None,
        typer.Option(help="Exact edges out of each left neuron, one number per junction: 50,10."),
    ] = None,
    family: Annotated[
        str, typer.Option(help="auto, clash_free, cyclic, regular or random patterns.")
    ] = "auto",
    banks: options.Banks = None,
    block: options.BlockText = "auto",
    recipe: options.RecipeName = None,
    l2: Annotated[float, typer.Option(help="Adds this times the sum of squared weights.")] = 0.0,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    join_validation: options.JoinValidation = False,
    seeds: options.Seeds = 1,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first run.")] = 0,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            callback=outputs.to_folder,
            help="Write checkpoint, history and weights of each run to RUN_DIR/seed-N.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the runs in --run-dir.")
    ] = False,
    data_dir: options.DataDir = None,
    data_option: options.DataOptions = None,
    threads: options.Threads = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            callback=outputs.to_file,
            help="Write settings and every epoch to this file.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a network with a fixed sparse pattern, or a dense one to compare with.

    Without --density and --fan-out the network is dense. Test accuracy is that after the last
    epoch, and so is the error of a regression, in percent of the targets' variance; several seeds
    give a mean and its 95 % interval.

    **Examples**

    dnc-sparse train --data morse-1.0 --layers 64,1024,64 --density 0.25

    dnc-sparse train --data mnist --layers 800,100,10 --fan-out 50,10 --l2 8e-5 --seeds 5
    """
    options.set_threads(threads)
    task = options.task(
        data, data_dir, data_option, recipe, epochs, batch_size, learning_rate, join_validation
    )
    version = Version(
        sizes=options.numbers(layers, "--layers", int),
        density=density,
        fan_out=None if fan_out is None else options.numbers(fan_out, "--fan-out", int, "50,10"),
        family=family,
        block=options.block(block),
        options=options.given(banks=banks),
        l2=l2,
    )
    if resume and run_dir is None:
        raise ValueError("--resume needs --run-dir, the folder of the runs to continue")
    if run_dir is not None:
        outputs.refuse_others(run_dir, "dnc-sparse train")
    console = options.console()
    loaded = task.load(version)
    console.print(repr(loaded), highlight=False)
    # regression has no accuracy
    figure = "test_error" if loaded.is_regression else "test_accuracy"
    runs: list[dict[str, Any]] = []
    for seed in range(first_seed, first_seed + seeds):
        model = task.model(version, seed)
        if not runs:
            console.print(describe(model), highlight=False)
        history = fit(
            model,
            loaded,
            task.config(version, seed),
            run_dir=None if run_dir is None else run_dir / f"seed-{seed}",
            resume=resume,
            progress=not quiet,
            title=f"seed {seed}",
        )
        rows = history.rows()
        runs.append({"seed": seed, figure: rows[-1][figure], "epochs": rows})
        console.print(
            f"seed {seed}: {figure.replace('_', ' ')} {100 * rows[-1][figure]:.2f} %, "
            f"{history.seconds_per_epoch:.3f} s per epoch",
            highlight=False,
        )
    mean, half_width = mean_interval([run[figure] for run in runs])
    if seeds > 1:
        text = accuracy_text(mean, half_width)
        console.print(f"{seeds} seeds: {figure.replace('_', ' ')} {text} % (mean, 95 % interval)")
    if json_file is not None:
        record = {
            "machine": machine.describe(),
            "task": asdict(task),
            "version": version.record(),
            "network": {
                "edges": model.n_edges,
                "parameters": model.n_parameters,
                "density": model.density,
            },
            figure: {"mean": mean, "half_width_95": half_width},
            "runs": runs,
        }
        checkpoint.write_json(json_file, record)


def describe(model: SparseMLP) -> str:
    """Return a line that says how large a network is, and in which blocks its edges come."""
    sizes = "-".join(map(str, model.sizes))
    sparse = [j.pattern.block for j in model.junctions if isinstance(j, SparseLinear)]
    blocks = f", blocks {', '.join(f'{bo}x{bi}' for bo, bi in sparse)}" if sparse else ""
    return (
        f"network {sizes}: {model.n_edges} edges of {_dense_edges(model)} "
        f"({100 * model.density:.3g} %), {model.n_parameters} parameters{blocks}"
    )


def _dense_edges(model: SparseMLP) -> int:
    return round(model.n_edges / model.density)

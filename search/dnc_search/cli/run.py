"""`dnc-search run`: begin a search, or go on with it, with workers on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from dnc_search.assembly import course_of, load_data
from dnc_search.cli import options
from dnc_search.cli.crew import Crew
from dnc_search.cli.screen import Screen
from dnc_search.cli.status import Summary, best_table, headline
from dnc_search.cli.task import tell_task
from dnc_search.definition import Search, digest_of
from dnc_search.evaluation import Settings, check_device, shape_of
from dnc_search.ledger import Ledger, LedgerError
from dnc_search.measures import check_own
from dnc_search.overview import overview
from dnc_search.space import Shape, Space
from dnc_search.spaces import (
    check_space,
    earlier_defaults,
    space_from,
    space_from_texts,
    space_record,
)
from dnc_search.stages import Course
from dnc_sparse.checkpoint import make_folder
from dnc_sparse.cli import options as sparse_options
from dnc_sparse.cli import outputs

DEFAULTS = Settings()


def run(
    data: sparse_options.DataName,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            callback=outputs.to_folder,
            help="Folder of the search: its ledger, and the weights.",
        ),
    ],
    space: Annotated[
        str, typer.Option(help="mlp, sparse-mlp, cnn, or your own as path/to/file.py:ClassName.")
    ] = "mlp",
    space_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of the space, such as nodes=16,512."),
    ] = None,
    wc: Annotated[
        str, typer.Option("--wc", help="What complexity is worth; several with commas between.")
    ] = "0",
    penalty: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=SHARE]", help="Complexities that count, by their shares."),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="Measure this too, to judge by it later; may be repeated."),
    ] = None,
    latency_batch: Annotated[
        int, typer.Option(help="Samples of the forward pass that latency_seconds times.")
    ] = DEFAULTS.latency_batch,
    epochs: Annotated[int, typer.Option(help="Epochs of each candidate.")] = DEFAULTS.epochs,
    schedule: Annotated[
        str, typer.Option(help="Learning rate: constant, step or cosine.")
    ] = DEFAULTS.schedule,
    initial: Annotated[
        int | None, typer.Option(help="Candidates of each first design; else the space's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Candidates proposed after it; else the space's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn.")] = 0,
    validation: Annotated[
        float, typer.Option(help="Part of the training samples to validate with.")
    ] = 0.2,
    sampler: Annotated[str, typer.Option(help="ramp, tpe, gp or random.")] = "ramp",
    pruner: Annotated[
        str, typer.Option(help="End candidates early: none, asha, hyperband, median, curve.")
    ] = "none",
    filter_: Annotated[
        str,
        typer.Option(
            "--filter",
            help="Train the most promising of four proposals: none, naswot, synflow, parameters.",
        ),
    ] = "none",
    final_seeds: Annotated[int, typer.Option(help="Final runs of each winner.")] = 3,
    final_epochs: Annotated[
        int | None, typer.Option(help="Epochs of the final runs; else those of candidates.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes, which share the cores.")] = 1,
    threads: sparse_options.Threads = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu or cuda.")] = DEFAULTS.device,
    storage: options.Storage = None,
    name: options.Name = None,
    data_dir: sparse_options.DataDir = None,
    data_option: sparse_options.DataOptions = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Search for networks that are good and cheap; run it again to go on after any end.

    Stages follow one another: architectures, changes to the best ones, how they are trained. At
    the end the best network of each w_c is trained anew and tested once.

    **Examples**

    dnc-search run --data fashion-mnist --space mlp --wc 0,0.01,0.1,1,10 --out runs/fashion --jobs 2

    dnc-search run --data mnist --space sparse-mlp --space-option nodes=16,512 --wc 0.1 --out runs/a
    """
    outputs.refuse_others(out, "dnc-search")
    shares = options.shares(penalty)
    url = options.storage_url(storage, out)
    path = options.data_path(data)
    search_name = options.search_name(name, out)
    chosen = space_of(space, space_option or (), url, search_name)
    settings = Settings(
        epochs=epochs,
        schedule=schedule,  # type: ignore[arg-type]
        device=device,
        measures=tuple(dict.fromkeys((*DEFAULTS.measures, *shares, *(measure or ())))),
        latency_batch=latency_batch,
    )
    search = Search(
        name=search_name,
        data=path,
        data_options=sparse_options.pairs(data_option),
        data_digest=digest_of(path),
        space=space_record(chosen),
        settings=asdict(settings),
        w_c=sparse_options.numbers(wc, "--wc", float),
        penalty=shares,
        validation_fraction=validation,
        seed=seed,
        initial=initial,
        steps=steps,
        sampler=sampler,  # type: ignore[arg-type]
        pruner=pruner,  # type: ignore[arg-type]
        filter=filter_,  # type: ignore[arg-type]
        final_seeds=final_seeds,
        final_epochs=final_epochs,
    )
    loaded = load_data(search, data_dir)
    tell_task(loaded)
    shape = shape_of(loaded)
    search = replace(search, shape=asdict(shape))
    course = checked(search, chosen, shape)
    make_folder(out)
    with Ledger(url, search.name) as ledger:
        ledger.define(search)
        crew = Crew(ledger, out=out, data_dir=data_dir, jobs=jobs, threads=threads)
        follow(ledger, course, crew, lambda config: chosen.summary(config, shape), quiet=quiet)
    sparse_options.console().print(f"ledger and weights are in {out}", highlight=False)


def space_of(name: str, texts: Sequence[str], url: str, search_name: str) -> Space:
    """Return the space of the options; what they leave open is as it was when the search began."""
    asked = space_from_texts(name, texts)
    try:
        with Ledger(url, search_name, read_only=True) as ledger:
            before = ledger.definition()
    except LedgerError:
        # there is none yet; what else is wrong with it shows when it is opened
        return asked
    if before is None:
        return asked
    told = {text.partition("=")[0] for text in texts}
    kept = earlier_defaults(name, before.space)
    options = {option: value for option, value in kept.items() if option not in told}
    record = space_record(asked)
    return space_from(name, {**record["options"], **options}) if options else asked


def checked(search: Search, space: Space, shape: Shape) -> Course:
    """Return the course of a search that can begin: networks of its space were built and run."""
    check_device(str(search.settings["device"]))
    check_space(space, shape)
    course = course_of(search, space, shape)
    check_own(search.settings["measures"], space, course.largest, shape)
    return course


def follow(ledger: Ledger, course: Course, crew: Crew, summary: Summary, *, quiet: bool) -> None:
    """Show how a search goes until its workers are done.

    Raises RuntimeError when they end before it does.
    """
    with Screen(summary, enabled=not quiet) as screen, crew:
        while crew.is_working():
            screen.show(overview(ledger, course))
        screen.show(overview(ledger, course))
    now = overview(ledger, course)
    if now.failure is not None:
        raise RuntimeError(f"the search has failed: {now.failure}")
    if not now.is_finished:
        raise RuntimeError(
            f"no worker is left, but only {now.done} of {now.slots} slots are done; what is above "
            f"says why; run the same command again to go on"
        )
    console = sparse_options.console()
    console.print(best_table(now, summary))
    console.print(headline(now), highlight=False)

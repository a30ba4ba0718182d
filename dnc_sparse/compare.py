"""Dense against sparse versions of one network: accuracy, edges, time and memory.

Every (version, seed) is trained in a fresh process, one at a time unless told otherwise, so that no
version inherits another's memory, caches or threads; seeds are the outer loop, so that a machine
that slows down slows all versions. Results are appended to a ledger of JSON lines as they come, and
what the ledger holds is not done again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from dnc_sparse import __version__, machine, processes
from dnc_sparse.data import DataSet, Split
from dnc_sparse.experiment import Task, Version
from dnc_sparse.ledger import Ledger, key_of
from dnc_sparse.training import FitConfig, fit


@dataclass(frozen=True)
class Result:
    """What one run showed; time and memory are None when runs shared the machine.

    `machine` says what it was made with: versions, commit, processor (`machine.describe`).
    """

    key: str
    version: str
    seed: int
    test_accuracy: float
    train_accuracy: float
    loss: float
    density: float
    edges: int
    parameters: int
    epochs: int
    threads: int
    seconds_per_epoch: float | None
    peak_mib: float | None
    machine: dict[str, Any]


def run_key(identity: dict[str, Any], version: Version, seed: int, threads: int | None) -> str:
    """Return sixteen hex digits that tell two different runs apart, other releases' runs too.

    `identity` is `Task.identity()`; `threads` is None for a run whose time and memory are not
    measured.
    """
    record = [__version__, identity, version.record(), seed, threads]
    return key_of(record)


def run(task: Task, version: Version, seed: int, threads: int, *, measure: bool = True) -> Result:
    """Train one version with one seed in this process and return what it showed."""
    torch.set_num_threads(threads)
    # before training: the code and the data may change meanwhile
    made_with, identity = machine.describe(), task.identity()
    config = task.config(version, seed)
    # only the end counts here; looking at the test set every epoch would cost time
    config = replace(config, eval_every=config.epochs)
    with warnings.catch_warnings():
        # so it has of the data
        warnings.simplefilter("ignore")
        data = task.load(version)
    if data.is_regression:
        raise ValueError(
            f"{data.name} is a regression and has no accuracies to compare; train shows its errors"
        )
    with warnings.catch_warnings():
        # the parent process has said it, once for all seeds
        warnings.filterwarnings("ignore", message="density .* becomes", category=UserWarning)
        if measure:
            _warm_up(task.model(version, seed), data, config)
        memory = machine.PeakMemory()
        model = task.model(version, seed)
    # drawing the patterns is no part of training
    memory.forget()
    history = fit(
        model, data, config, progress=False, on_epoch=lambda row: processes.tell(row.epoch)
    )
    train_accuracy = history.epochs[-1].train_accuracy
    # classes have one
    assert train_accuracy is not None
    return Result(
        key=run_key(identity, version, seed, threads if measure else None),
        version=version.name,
        seed=seed,
        test_accuracy=history.test_accuracy,
        train_accuracy=train_accuracy,
        loss=history.epochs[-1].loss,
        density=model.density,
        edges=model.n_edges,
        parameters=model.n_parameters,
        epochs=config.epochs,
        threads=threads,
        seconds_per_epoch=history.seconds_per_epoch if measure else None,
        peak_mib=memory.mib() if measure else None,
        machine=made_with,
    )


def _warm_up(model: nn.Module, data: DataSet, config: FitConfig) -> None:
    """Train one batch: code is then loaded and threads run before anything is measured."""
    few = Split(data.train.x[: config.batch_size], data.train.y[: config.batch_size])
    one_step = replace(data, train=few, test=few, validation=None)
    fit(model, one_step, replace(config, epochs=1), progress=False)


def compare(
    task: Task,
    versions: Sequence[Version],
    seeds: Sequence[int],
    ledger: Ledger[Result],
    *,
    threads: int,
    jobs: int = 1,
    report: Callable[[Result, int, int], None] = lambda result, done, total: None,
    watch: Callable[[Version, int, int, int], None] = lambda version, seed, epoch, done: None,
) -> list[Result]:
    """Train every version with every seed that the ledger lacks and return all their results.

    With `jobs` above 1 that many runs share the machine, one thread each, and their times and
    memory are not kept. `report` gets each new result, how many are done and how many there are;
    `watch` gets version, seed and epoch whenever a run has done another epoch, and how many runs
    are done.

    Raises RuntimeError when a run's process dies or the data change meanwhile, and on Ctrl-C
    KeyboardInterrupt, which says what is kept; what was finished stays in the ledger.
    """
    wanted = [(version, seed) for seed in seeds for version in versions]
    measured_threads = threads if jobs == 1 else None
    identity = task.identity()
    keys = [run_key(identity, version, seed, measured_threads) for version, seed in wanted]
    todo = [job for job, key in zip(wanted, keys, strict=True) if key not in ledger.results]
    done = len(wanted) - len(todo)
    if jobs > 1:
        threads = 1
    for version in versions:
        # says at once what cannot be built, and warns of rounded densities
        version.build(seeds[0])
    if todo and task.data.endswith(".npz"):
        # says at once what is wrong with somebody's own data, and what is doubtful
        task.load(versions[0])
    fewer = "; --jobs 1 needs the least memory" if jobs > 1 else ""
    advice = f"{fewer}; finished runs are kept in {ledger.path}, the same command goes on"
    call = partial(run, measure=jobs == 1)
    calls = [(task, version, seed, threads) for version, seed in todo]

    def hear(index: int, epoch: int) -> None:
        watch(*todo[index], epoch, done)

    try:
        with closing(processes.results(call, calls, jobs, advice=advice, hear=hear)) as finished:
            for _, result in finished:
                ledger.add(result)
                done += 1
                report(result, done, len(wanted))
    except KeyboardInterrupt as interrupt:
        kept = sum(key in ledger.results for key in keys)
        raise KeyboardInterrupt(
            f"stopped: {kept} of {len(wanted)} runs are kept in {ledger.path}; "
            f"the same command goes on"
        ) from interrupt
    if any(key not in ledger.results for key in keys):
        raise RuntimeError(f"{task.data} changed while runs read it; run the same command again")
    return [ledger.results[key] for key in keys]

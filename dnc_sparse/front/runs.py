"""The runs of a front: each network's learning rate from validation, then its tests, then its cost.

One recipe serves all: Adam, a cosine schedule, so many epochs. Every network tries the same
learning rates, each trained without the validation samples; the best on those is its rate. The
tests train with that rate on all training samples, several seeds, and nothing is chosen by them.
Accuracies do not depend on what else the machine does, so these runs share it; times are taken
afterwards (`dnc_sparse.front.costs`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from dnc_sparse import __version__, processes
from dnc_sparse.data import DataSet, check_classes, join_validation, load, split_validation
from dnc_sparse.experiment import identify
from dnc_sparse.front.networks import Network
from dnc_sparse.ledger import Ledger, key_of
from dnc_sparse.training import Diverged, FitConfig, fit

# of the training samples, where a data set brings no validation samples: 10,000 of MNIST's
VALIDATION_SHARE = 1 / 6
# the seed of the runs that choose a learning rate
RATE_SEED = 0


@dataclass(frozen=True)
class FrontTask:
    """The data, and the recipe that all networks share."""

    data: str
    epochs: int
    batch_size: int = 256
    rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3, 8e-3)
    seeds: int = 5
    threads: int = 1
    data_dir: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config(min(self.rates, default=0.0), 0)
        if self.seeds < 1:
            raise ValueError(f"a front needs at least 1 seed, got {self.seeds}")

    def config(self, rate: float, seed: int) -> FitConfig:
        """Return the settings of one run. Raises ValueError for a value out of range."""
        return FitConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=rate,
            schedule="cosine",
            seed=seed,
            # only the end counts
            eval_every=self.epochs,
        )

    def load(self, *, final: bool) -> DataSet:
        """Return the data: with a validation split, or all training samples in one when `final`.

        Raises ValueError for a regression and for classes without a training sample.
        """
        data = load(self.data, self.data_dir, **self.options)
        if data.is_regression:
            raise ValueError(f"{data.name} is a regression; a front needs classes to tell apart")
        check_classes(data)
        if final:
            return data if data.validation is None else join_validation(data)
        return data if data.validation is not None else split_validation(data, VALIDATION_SHARE)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides an accuracy, besides network, rate and seed; a file of data is read once."""
        return {
            "data": identify(self.data),
            "options": self.options,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
        }


@dataclass(frozen=True)
class Run:
    """One training: its accuracy on the validation samples, or on the test samples when `final`.

    Zero where the loss grew without bounds.
    """

    key: str
    network: str
    rate: float
    seed: int
    final: bool
    accuracy: float
    edges: int
    parameters: int


@dataclass(frozen=True)
class Job:
    """A training that is to be done."""

    network: Network
    rate: float
    seed: int
    final: bool

    def key(self, task: FrontTask) -> str:
        """Return what tells it from every other training, other releases' too."""
        record = [__version__, task.identity, asdict(self)]
        return key_of(record)


@dataclass(frozen=True)
class Trained:
    """What the runs of one network showed; accuracies as the task orders rates and seeds."""

    network: Network
    rate: float
    validation: tuple[float, ...]
    tests: tuple[float, ...]
    edges: int
    parameters: int


Report = Callable[[Run, int, int], None]


def train_all(
    task: FrontTask,
    networks: Sequence[Network],
    ledger: Ledger[Run],
    *,
    jobs: int,
    report: Report = lambda run, done, total: None,
) -> list[Trained]:
    """Do the runs that the ledger lacks, `jobs` at a time, and return what each network showed.

    `report` gets each new run, how many are done and how many there will be. Raises RuntimeError
    when a run's process dies or the data change meanwhile; what was finished stays in the ledger.
    """
    searches = [[Job(n, rate, RATE_SEED, False) for rate in task.rates] for n in networks]
    count = _Count(len(networks) * (len(task.rates) + task.seeds), report)
    validated = _train(task, searches, ledger, jobs, count)
    chosen = [max(runs, key=lambda run: (run.accuracy, -run.rate)) for runs in validated]
    finals = [
        [Job(network, run.rate, seed, True) for seed in range(task.seeds)]
        for network, run in zip(networks, chosen, strict=True)
    ]
    tested = _train(task, finals, ledger, jobs, count)
    return [
        Trained(
            network=network,
            rate=run.rate,
            validation=tuple(one.accuracy for one in search),
            tests=tuple(one.accuracy for one in tests),
            edges=run.edges,
            parameters=run.parameters,
        )
        for network, run, search, tests in zip(networks, chosen, validated, tested, strict=True)
    ]


class _Count:
    """How many runs are done."""

    def __init__(self, total: int, report: Report) -> None:
        self.done, self.total, self.report = 0, total, report

    def add(self, run: Run) -> None:
        self.done += 1
        self.report(run, self.done, self.total)


def _train(
    task: FrontTask,
    groups: Sequence[Sequence[Job]],
    ledger: Ledger[Run],
    jobs: int,
    count: _Count,
) -> list[list[Run]]:
    """Return the runs of each group of jobs, doing those that the ledger lacks."""
    keys = [[job.key(task) for job in group] for group in groups]
    todo = [
        job
        for group, group_keys in zip(groups, keys, strict=True)
        for job, key in zip(group, group_keys, strict=True)
        if key not in ledger.results
    ]
    count.done += sum(map(len, groups)) - len(todo)

    def hear(index: int, run: Run) -> None:
        ledger.add(run)
        count.add(run)

    calls = [(task, share) for share in shares(todo, jobs)]
    with closing(processes.results(train_some, calls, jobs, hear=hear)) as ends:
        for _ in ends:
            pass
    if any(key not in ledger.results for group in keys for key in group):
        raise RuntimeError(f"{task.data} changed while runs read it; run the same command again")
    return [[ledger.results[key] for key in group] for group in keys]


def shares(jobs: Sequence[Job], workers: int) -> list[list[Job]]:
    """Share jobs out so that all workers need about as long, each its longest first."""
    # without the data's sizes: wide layers dominate
    work = {job: 1000 + job.network.edges(784, 10) for job in jobs}
    parts: list[list[Job]] = [[] for _ in range(min(workers, len(jobs)))]
    for job in sorted(jobs, key=lambda job: -work[job]):
        min(parts, key=lambda part: sum(work[one] for one in part)).append(job)
    return parts


def train_some(task: FrontTask, jobs: Sequence[Job]) -> None:
    """Do jobs of one kind, final or not, in this process on one thread; tell each run at its end.

    A fresh process needs seconds to load torch and the data, as long as a small run itself.
    """
    torch.set_num_threads(1)
    # its identity is that of the data as they are read here
    task = replace(task)
    data = task.load(final=jobs[0].final)
    for job in jobs:
        processes.tell(train(task, job, data))


def train(task: FrontTask, job: Job, data: DataSet) -> Run:
    """Train one network and return its accuracy; data as of `FrontTask.load`."""
    model = job.network.build(data.n_features, data.n_outputs, job.seed)
    try:
        history = fit(
            *(model, data, task.config(job.rate, job.seed)),
            progress=False,
            evaluate_test=job.final,
        )
    except Diverged:
        accuracy = 0.0
    else:
        last = history.epochs[-1]
        error = last.test_error if job.final else last.validation_error
        # `FrontTask.load` gives both splits
        assert error is not None
        accuracy = 1 - error
    return Run(
        key=job.key(task),
        network=job.network.name,
        rate=job.rate,
        seed=job.seed,
        final=job.final,
        accuracy=accuracy,
        edges=model.n_edges,
        parameters=model.n_parameters,
    )

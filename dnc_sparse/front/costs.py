"""What training costs: seconds and memory, measured apart from the runs that show accuracies.

Times are of all networks in one process, in turn, so that a machine that slows down slows all of
them; dense networks are timed twice, with torch's own linear layers and with oneDNN's, which are
faster on some processors. On one thread the processor's time counts, which other work on the
machine disturbs least; on several threads the clock's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dnc_sparse import __version__, machine, processes
from dnc_sparse.bench.dense import onednn_linear, onednn_unavailable
from dnc_sparse.data import DataSet, Split
from dnc_sparse.front.networks import Network
from dnc_sparse.front.runs import FrontTask
from dnc_sparse.ledger import Ledger, key_of
from dnc_sparse.processor import processor
from dnc_sparse.training import fit

Kernels = Literal["dnc_sparse", "torch", "oneDNN"]

ROUNDS = 5
# of one network in one round; an epoch at most
SECONDS_A_TURN = 0.4
# the second step already has all that training ever holds
STEPS_FOR_MEMORY = 3


@dataclass(frozen=True)
class Cost:
    """Seconds of one epoch, the median of rounds, by these kernels; memory above an idle process.

    `seconds_per_epoch` is that of the data set's whole training split, validation among it.
    """

    key: str
    network: str
    kernels: Kernels
    threads: int
    seconds_per_epoch: float
    spread: float
    peak_mib: float | None
    machine: dict[str, Any]


class OneDnnLinear(nn.Linear):
    """`nn.Linear` with all three products by oneDNN."""

    def forward(self, input: Tensor) -> Tensor:
        """Return [batch, n_out] of [batch, n_in]."""
        return onednn_linear(input, self.weight, self.bias)


def kernels_of(network: Network) -> list[Kernels]:
    """Return the kernels to time a network with."""
    if not network.is_dense:
        return ["dnc_sparse"]
    return ["torch"] if onednn_unavailable() else ["torch", "oneDNN"]


def cost_key(task: FrontTask, network: Network, kernels: Kernels) -> str:
    """Return what tells a cost from all others: the machine's processor is among it."""
    record = [__version__, task.identity, asdict(network), kernels, task.threads, processor()]
    return key_of(record)


def measure_all(
    task: FrontTask,
    networks: Sequence[Network],
    ledger: Ledger[Cost],
    *,
    jobs: int,
    memory: bool = True,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[tuple[Network, Kernels], Cost]:
    """Measure what the ledger lacks and return the costs of every network, by its kernels.

    Memory is measured in a process for each network, `jobs` at a time, unless `memory` is False;
    times in one process and nothing beside it.
    `report` gets what is measured, how much of it is done and of how much. Times are kept when all
    are there, as they are of one run.
    """
    wanted = [(n, kernels) for n in networks for kernels in kernels_of(n)]
    keys = [cost_key(task, *one) for one in wanted]
    todo = [
        one
        for one, key in zip(wanted, keys, strict=True)
        if key not in ledger.results or (memory and ledger.results[key].peak_mib is None)
    ]
    peaks: list[float | None] = [None] * len(todo)
    calls = [(task, *one) for one in todo] if memory else []
    with closing(processes.results(peak_memory, calls, jobs)) as measured:
        for done, (index, mib) in enumerate(measured, start=1):
            peaks[index] = mib
            report("memory", done, len(todo))

    def hear(index: int, done: int) -> None:
        report("time", done, ROUNDS)

    if todo:
        with closing(processes.results(times, [(task, todo)], 1, hear=hear)) as timed:
            ((_, seconds),) = timed
        made_with = machine.describe()
        for one, peak, rounds in zip(todo, peaks, seconds, strict=True):
            middle = median(rounds)
            ledger.add(
                Cost(
                    key=cost_key(task, *one),
                    network=one[0].name,
                    kernels=one[1],
                    threads=task.threads,
                    seconds_per_epoch=middle,
                    spread=(max(rounds) - min(rounds)) / middle,
                    peak_mib=peak,
                    machine=made_with,
                )
            )
    return {one: ledger.results[key] for one, key in zip(wanted, keys, strict=True)}


def times(task: FrontTask, networks: Sequence[tuple[Network, Kernels]]) -> list[list[float]]:
    """Return the seconds of an epoch of each network, one number a round."""
    torch.set_num_threads(task.threads)
    data = task.load(final=True)
    steps = math.ceil(len(data.train) / task.batch_size)
    models = [_model(data, *one) for one in networks]
    turns = [_turn(task, model, data, steps) for model in models]
    seconds: list[list[float]] = [[] for _ in models]
    for number in range(ROUNDS):
        for model, turn, row in zip(models, turns, seconds, strict=True):
            row.append(_train(task, model, data, turn) / turn * steps)
        processes.tell(number + 1)
    return seconds


def peak_memory(task: FrontTask, network: Network, kernels: Kernels) -> float:
    """Return the MiB that a network and its training add to a process that has the data."""
    torch.set_num_threads(task.threads)
    data = task.load(final=True)
    # code is loaded and threads run before anything is measured
    _train(task, _model(data, network, kernels), data, 1)
    memory = machine.PeakMemory()
    model = _model(data, network, kernels)
    # drawing the patterns is no part of training
    memory.forget()
    _train(task, model, data, STEPS_FOR_MEMORY)
    return memory.mib()


def _turn(task: FrontTask, model: nn.Module, data: DataSet, steps: int) -> int:
    """Return how many steps last a turn, after a first one in which kernels are chosen."""
    few = min(10, steps)
    _train(task, model, data, few)
    a_step = _train(task, model, data, few) / few
    return min(steps, max(few, math.ceil(SECONDS_A_TURN / a_step)))


def _train(task: FrontTask, model: nn.Module, data: DataSet, steps: int) -> float:
    """Train some steps and return the seconds that took."""
    clock = time.process_time if task.threads == 1 else time.perf_counter
    samples = min(steps * task.batch_size, len(data.train))
    few = Split(data.train.x[:samples], data.train.y[:samples])
    part = replace(data, train=few, test=few, validation=None)
    config = replace(task.config(min(task.rates), 0), epochs=1)
    started = clock()
    fit(model, part, config, progress=False, evaluate_test=False)
    return clock() - started


def _model(data: DataSet, network: Network, kernels: Kernels) -> nn.Module:
    model = network.build(data.n_features, data.n_outputs, 0)
    if kernels == "oneDNN":
        for linear in model.modules():
            if type(linear) is nn.Linear:
                # the same parameters, other products
                linear.__class__ = OneDnnLinear
    return model

"""One small training loop: seeded, resumable, with its history as JSON lines.

The whole data set is in memory; batches are gathered by a permutation that depends on the seed and
the epoch alone, so an interrupted run that is resumed ends with the same weights, bit for bit.
"""

from __future__ import annotations

import math
import operator
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from dnc_sparse.data import DataSet, Split
from dnc_sparse.progress import Display
from dnc_sparse.run_folder import RunFolder

OptimizerName = Literal["adam", "sgd"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `fit`, after the last full epoch was saved; the message says how to go on."""


@dataclass(frozen=True)
class FitConfig:
    """Settings of a run.

    `lr_decay` divides the learning rate by (1 + lr_decay * step), as Keras does. `l2` adds
    l2 * sum(w^2) over kernels (parameters of two or more dimensions) to what is minimised; the
    reported loss is the cross-entropy alone. `eval_every` counts epochs; the last one is always
    evaluated. Raises ValueError for a value out of range.
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: OptimizerName = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    lr_decay: float = 0.0
    l2: float = 0.0
    seed: int = 0
    shuffle: bool = True
    eval_every: int = 1

    def __post_init__(self) -> None:
        known = get_args(OptimizerName)
        if self.optimizer not in known:
            raise ValueError(f"unknown optimizer {self.optimizer!r}; choose {' or '.join(known)}")
        for name in ("epochs", "batch_size", "eval_every", "seed"):
            # numpy's integers become Python's, which JSON can hold
            object.__setattr__(self, name, _integer(name, getattr(self, name)))
        limits = {
            "at least 1": ("epochs", "batch_size", "eval_every"),
            "above 0": ("learning_rate", "eps"),
            "0 or more": ("momentum", "lr_decay", "l2", "seed"),
        }
        holds = {
            "at least 1": lambda value: value >= 1,
            "above 0": lambda value: 0 < value < math.inf,
            "0 or more": lambda value: 0 <= value < math.inf,
        }
        for limit, names in limits.items():
            for name in names:
                value = getattr(self, name)
                if not holds[limit](value):
                    raise ValueError(f"{name} must be {limit}, got {value}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in 0..1 (1 excluded), got {self.betas}")


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch; accuracies are fractions.

    `train_accuracy` is the running one, over batches as they were trained on. `seconds` is the time
    spent training, evaluation excluded.
    """

    epoch: int
    loss: float
    train_accuracy: float
    validation_accuracy: float | None
    test_accuracy: float | None
    seconds: float


@dataclass
class History:
    """Epochs of one run, in order."""

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def test_accuracy(self) -> float:
        """Test accuracy after the last epoch, the figure the papers report."""
        accuracy = self.epochs[-1].test_accuracy
        # fit evaluates the last epoch
        assert accuracy is not None
        return accuracy

    @property
    def seconds_per_epoch(self) -> float:
        """Median training time of an epoch."""
        return float(np.median([row.seconds for row in self.epochs]))

    def rows(self) -> list[dict[str, Any]]:
        """Return the epochs as JSON-able records."""
        return [asdict(row) for row in self.epochs]


def fit(
    model: nn.Module,
    data: DataSet,
    config: FitConfig,
    *,
    run_dir: Path | str | None = None,
    resume: bool = False,
    checkpoint_every: int = 1,
    progress: bool = True,
    title: str = "",
    device: torch.device | str = "cpu",
) -> History:
    """Train a classifier in place and return its history.

    The model maps [batch, n_features] to logits [batch, n_classes]. With `run_dir`, the run is
    written there (`dnc_sparse.run_folder`), a checkpoint every `checkpoint_every` epochs, and
    `resume` continues from it; without a checkpoint, `resume` starts from the beginning.

    Raises ValueError when model and data do not fit or the checkpoint is of another run,
    FileExistsError when `run_dir` holds a run and `resume` is False, RuntimeError when the loss is
    no longer finite or a file cannot be written, and `Interrupted` on Ctrl-C. Whatever the error,
    the last full epoch is saved first; where that fails too, the last checkpoint stays and a note
    on the error says so.
    """
    if resume and run_dir is None:
        raise ValueError("resume needs run_dir, the folder of the run to continue")
    if _integer("checkpoint_every", checkpoint_every) < 1:
        raise ValueError(f"checkpoint_every must be at least 1 epoch, got {checkpoint_every}")
    device = torch.device(device)
    model.to(device)
    _check_output(model, data, device)
    train, test = _moved(data.train, device), _moved(data.test, device)
    validation = None if data.validation is None else _moved(data.validation, device)
    optimizer = make_optimizer(model, config)
    history = History()
    folder = None
    if run_dir is not None:
        settings = asdict(config) | {"data": data.name, "samples": len(data.train.y)}
        folder = RunFolder(Path(run_dir), settings, resume=resume)
        history.epochs = [Epoch(**row) for row in folder.restore(model, optimizer)]
    done = len(history.epochs)
    if done > config.epochs:
        raise ValueError(
            f"{run_dir} has {done} epochs already, more than the {config.epochs} asked for; "
            f"ask for {done} or more, or start in another folder"
        )
    if folder is not None and done == config.epochs and history.epochs[-1].test_accuracy is None:
        # it was not the last epoch when it was trained
        history.epochs[-1] = _evaluated(history.epochs[-1], model, validation, test, config)
        folder.amend(model, optimizer, history.rows())
    steps = math.ceil(len(data.train.y) / config.batch_size)
    try:
        with Display(config.epochs, steps, done, enabled=progress, title=title) as display:
            for number in range(done, config.epochs):
                loss, accuracy, seconds = _train_epoch(
                    model, train, config, optimizer, number, display
                )
                last = number + 1 == config.epochs
                row = Epoch(number + 1, loss, accuracy, None, None, seconds)
                if last or (number + 1) % config.eval_every == 0:
                    row = _evaluated(row, model, validation, test, config)
                history.epochs.append(row)
                if folder is not None:
                    write = last or (number + 1) % checkpoint_every == 0
                    folder.record(model, optimizer, history.rows(), write=write)
                display.epoch(row)
    except KeyboardInterrupt as interrupt:
        if folder is None:
            raise
        folder.flush()
        raise Interrupted(
            f"stopped after {folder.epochs_saved} of {config.epochs} epochs; "
            f"continue with resume=True (--resume) and the folder {run_dir}"
        ) from interrupt
    except BaseException as error:
        if folder is not None:
            try:
                folder.flush()
            except RuntimeError as lost:
                error.add_note(f"epochs after the last checkpoint are lost: {lost}")
        raise
    if folder is not None:
        folder.finish(model)
    return history


def make_optimizer(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """Return the optimiser of `config`, its L2 term on kernels only."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("the model has no parameter to train; set requires_grad on some")
    groups: list[dict[str, Any]] = [
        # the gradient of l2 * sum(w^2) is 2 * l2 * w
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": 2 * config.l2},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # one pass over the parameters a step: 72 us instead of 165 for (800, 100, 10) on a CPU
    fused = {p.device.type for p in trained} <= {"cpu", "cuda"}
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=config.learning_rate, momentum=config.momentum, fused=fused
        )
    return torch.optim.Adam(
        groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=fused
    )


def evaluate(model: nn.Module, split: Split, batch_size: int = 256) -> float:
    """Return the fraction of samples the model classifies as labelled, in evaluation mode."""
    was_training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.y.device)
    with torch.no_grad():
        for x, y in zip(
            torch.split(split.x, batch_size), torch.split(split.y, batch_size), strict=True
        ):
            correct += (model(x).argmax(1) == y).sum()
    model.train(was_training)
    return correct.item() / max(1, len(split.y))


def _evaluated(
    row: Epoch, model: nn.Module, validation: Split | None, test: Split, config: FitConfig
) -> Epoch:
    """Return the row with the accuracies of the model as it is now."""
    return replace(
        row,
        validation_accuracy=(
            None if validation is None else evaluate(model, validation, config.batch_size)
        ),
        test_accuracy=evaluate(model, test, config.batch_size),
    )


def _train_epoch(
    model: nn.Module,
    split: Split,
    config: FitConfig,
    optimizer: torch.optim.Optimizer,
    number: int,
    display: Display,
) -> tuple[float, float, float]:
    """Train one epoch and return its mean loss, running accuracy and seconds."""
    samples = len(split.y)
    steps = math.ceil(samples / config.batch_size)
    # sums stay on the device: reading one per step would wait for it
    total_loss = torch.zeros((), dtype=torch.float64, device=split.x.device)
    correct = torch.zeros((), dtype=torch.int64, device=split.x.device)
    cuda = [split.x.device] if split.x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        # batches and dropout depend on seed and epoch only, so a checkpoint needs no generator
        torch.manual_seed(_epoch_seed(config.seed, number))
        order = torch.randperm(samples) if config.shuffle else torch.arange(samples)
        order = order.to(split.x.device)
        model.train()
        started = time.perf_counter()
        for step, batch in enumerate(torch.split(order, config.batch_size)):
            rate = config.learning_rate / (1 + config.lr_decay * (number * steps + step))
            for group in optimizer.param_groups:
                group["lr"] = rate
            x, y = split.x.index_select(0, batch), split.y.index_select(0, batch)
            logits = model(x)
            loss = nn.functional.cross_entropy(logits, y)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            with torch.no_grad():
                total_loss += loss * len(batch)
                correct += (logits.argmax(1) == y).sum()
            display.step(step, steps)
        mean_loss = total_loss.item() / samples
        seconds = time.perf_counter() - started
    if not math.isfinite(mean_loss):
        raise RuntimeError(
            f"the loss became {mean_loss} in epoch {number + 1}; "
            f"lower the learning rate (now {config.learning_rate:g})"
        )
    return mean_loss, correct.item() / samples, seconds


def _integer(name: str, value: int) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {value!r}") from None


def _epoch_seed(seed: int, epoch: int) -> int:
    word = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    # torch takes signed seeds
    return int(word) >> 1


def _moved(split: Split, device: torch.device) -> Split:
    # a new Split is validated anew, so one that stays is not rebuilt
    return split if split.x.device == device else Split(split.x.to(device), split.y.to(device))


def _check_output(model: nn.Module, data: DataSet, device: torch.device) -> None:
    """Raise ValueError unless the model gives one logit per class."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        shape = list(model(data.train.x[:1].to(device)).shape)
    model.train(was_training)
    if shape != [1, data.n_classes]:
        raise ValueError(
            f"the model maps one sample to {shape}, but {data.name} has {data.n_classes} classes; "
            f"give it {data.n_classes} outputs"
        )

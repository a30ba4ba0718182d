"""One small training loop: seeded, resumable, with its history as JSON lines.

The whole data set is in memory; batches are gathered by a permutation that depends on the seed and
the epoch alone, so an interrupted run that is resumed ends with the same weights, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dnc_sparse.data import DataSet, Split
from dnc_sparse.denormals import flushed_denormals
from dnc_sparse.fit_config import FitConfig, integer, make_optimizer
from dnc_sparse.history import Epoch, History
from dnc_sparse.metrics import evaluate, relative_error
from dnc_sparse.progress import Display
from dnc_sparse.run_folder import DATA_DIGEST, RunFolder, digest

__all__ = [
    "Diverged",
    "Epoch",
    "FitConfig",
    "History",
    "Interrupted",
    "StopTraining",
    "evaluate",
    "fit",
    "make_optimizer",
    "relative_error",
]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `fit`, after the last full epoch was saved; the message says how to go on."""


class Diverged(RuntimeError):
    """The loss is no longer finite; the message says in which epoch, and at which rate."""


class StopTraining(Exception):
    """Raised by `on_epoch` of `fit` to end the run after the epoch it was called with."""


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
    on_epoch: Callable[[Epoch], None] | None = None,
    evaluate_test: bool = True,
) -> History:
    """Train a model in place and return its history.

    The model maps [batch, n_features] to [batch, n_outputs]: logits of the classes, trained by
    cross-entropy, or, in regression, the targets, trained by squared error. With `run_dir`, the run
    is written there (`dnc_sparse.run_folder`), a checkpoint every `checkpoint_every` epochs, and
    `resume` continues from it; without a checkpoint, `resume` starts from the beginning.

    `on_epoch` is called after each epoch that is trained, and ends the run by raising
    `StopTraining`: the history up to that epoch is returned as of a whole run. With
    `evaluate_test=False` the test set is never looked at.

    Raises ValueError when model and data do not fit or the checkpoint is of another run,
    FileExistsError when `run_dir` holds a run and `resume` is False, `Diverged` (a RuntimeError)
    when the loss is no longer finite, RuntimeError when a file cannot be written, and `Interrupted`
    on Ctrl-C. Whatever the error, the last full epoch is saved first; where that fails too, the
    last checkpoint stays and a note on the error says so.
    """
    if resume and run_dir is None:
        raise ValueError("resume needs run_dir, the folder of the run to continue")
    if integer("checkpoint_every", checkpoint_every) < 1:
        raise ValueError(f"checkpoint_every must be at least 1 epoch, got {checkpoint_every}")
    device = torch.device(device)
    model.to(device)
    _check_output(model, data, device)
    train = _moved(data.train, device)
    held_out = {
        name: _moved(split, device)
        for name, split in data.splits.items()
        if name == "validation" or (name == "test" and evaluate_test)
    }
    optimizer = make_optimizer(model, config)
    history = History()
    folder = None
    if run_dir is not None:
        settings = asdict(config) | {"data": data.name, "samples": len(data.train.y)}
        settings[DATA_DIGEST] = digest(data)
        # only a rate that does not depend on them lets a run be prolonged
        free = ("epochs",) if config.schedule == "constant" else ()
        folder = RunFolder(Path(run_dir), settings, resume=resume, free_to_change=free)
        history.epochs = [Epoch(**row) for row in folder.restore(model, optimizer)]
    done = len(history.epochs)
    if done > config.epochs:
        raise ValueError(
            f"{run_dir} has {done} epochs already, more than the {config.epochs} asked for; "
            f"ask for {done} or more, or start in another folder"
        )
    if folder is not None and done == config.epochs and _lacks(history.epochs[-1], held_out):
        # it was not the last epoch when it was trained, or not to be tested
        history.epochs[-1] = _evaluated(history.epochs[-1], model, held_out, config)
        folder.amend(model, optimizer, history.rows())
    steps = math.ceil(len(data.train.y) / config.batch_size)
    try:
        with (
            flushed_denormals(),
            Display(config.epochs, steps, done, enabled=progress, title=title) as display,
        ):
            for number in range(done, config.epochs):
                loss, accuracy, seconds = _train_epoch(
                    model, train, config, optimizer, number, display
                )
                last = number + 1 == config.epochs
                row = Epoch(number + 1, loss, accuracy, None, None, seconds)
                if last or (number + 1) % config.eval_every == 0:
                    row = _evaluated(row, model, held_out, config)
                history.epochs.append(row)
                if folder is not None:
                    write = last or (number + 1) % checkpoint_every == 0
                    folder.record(model, optimizer, history.rows(), write=write)
                display.epoch(row)
                if on_epoch is not None:
                    on_epoch(row)
    except StopTraining:
        if folder is not None:
            folder.flush()
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


def _lacks(row: Epoch, held_out: Mapping[str, Split]) -> bool:
    """Say whether a figure of these splits is missing."""
    return any(getattr(row, f"{name}_error") is None for name in held_out)


def _evaluated(
    row: Epoch, model: nn.Module, held_out: Mapping[str, Split], config: FitConfig
) -> Epoch:
    """Return the row with the figures of the model as it is now."""
    figures: dict[str, Any] = {}
    for name, split in held_out.items():
        if split.is_regression:
            figures[f"{name}_error"] = relative_error(model, split, config.batch_size)
        else:
            accuracy = evaluate(model, split, config.batch_size)
            figures |= {f"{name}_accuracy": accuracy, f"{name}_error": 1 - accuracy}
    return replace(row, **figures)


def _train_epoch(
    model: nn.Module,
    split: Split,
    config: FitConfig,
    optimizer: torch.optim.Optimizer,
    number: int,
    display: Display,
) -> tuple[float, float | None, float]:
    """Train one epoch; return its mean loss, running accuracy (of classes) and seconds."""
    loss_of = nn.functional.mse_loss if split.is_regression else nn.functional.cross_entropy
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
            rate = config.rate(number * steps + step, config.epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            x, y = split.x.index_select(0, batch), split.y.index_select(0, batch)
            output = model(x)
            loss = loss_of(output, y)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            with torch.no_grad():
                total_loss += loss * len(batch)
                if not split.is_regression:
                    correct += (output.argmax(1) == y).sum()
            display.step(step, steps)
        mean_loss = total_loss.item() / samples
        seconds = time.perf_counter() - started
    if not math.isfinite(mean_loss):
        raise Diverged(
            f"the loss became {mean_loss} in epoch {number + 1}; "
            f"lower the learning rate (now {config.learning_rate:g})"
        )
    return mean_loss, None if split.is_regression else correct.item() / samples, seconds


def _epoch_seed(seed: int, epoch: int) -> int:
    word = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    # torch takes signed seeds
    return int(word) >> 1


def _moved(split: Split, device: torch.device) -> Split:
    # a new Split is validated anew, so one that stays is not rebuilt
    return split if split.x.device == device else Split(split.x.to(device), split.y.to(device))


def _check_output(model: nn.Module, data: DataSet, device: torch.device) -> None:
    """Raise ValueError unless the model gives one output per class or target."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        shape = list(model(data.train.x[:1].to(device)).shape)
    model.train(was_training)
    if shape != [1, data.n_outputs]:
        what = "targets" if data.is_regression else "classes"
        raise ValueError(
            f"the model maps one sample to {shape}, but {data.name} has {data.n_outputs} {what}; "
            f"give it {data.n_outputs} outputs"
        )

"""`dnc-sparse bench --suite`: a table of measures and their goals, and pictures."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dnc_sparse.backends import cpu, cuda_blocks, device_race, gpu
from dnc_sparse.bench import SUITES, figures, report, sweep
from dnc_sparse.bench.gpu_suite import BLOCKS, BLOCKS_TITLE
from dnc_sparse.bench.measures import BASE, Measure
from dnc_sparse.bench.roofs import Roofs, probe
from dnc_sparse.bench.suite import QUICK, THREADS, Effort, Outcome, Suite, plan
from dnc_sparse.bench.sweep import Point
from dnc_sparse.bench.timer import threads_restored
from dnc_sparse.checkpoint import make_folder, write_json
from dnc_sparse.cli import options
from dnc_sparse.extras import check_matplotlib
from dnc_sparse.processor import processor

Item = TypeVar("Item")
# processes that wanted to run in the last minute, on a machine that is quiet enough
QUIET_LOAD = 0.5


def run_suite(
    name: str,
    threads: int | None,
    rounds: int | None,
    quick: bool,
    json_file: Path | None,
    plot: Path | None,
    only: str | None = None,
    block_kernels: bool = False,
    goals: bool = False,
) -> None:
    """Take every measure of the named suite, print the table, write what was asked for.

    `only` keeps the measures whose name contains it, `block_kernels` lets the device use those of
    `backends.cuda_blocks`, `goals` shows each measure's goal and whether it is met. On a device a
    measure that breaks is reported and the rest goes on, for such a machine is seldom at hand; the
    file grows with each measure.

    Raises ValueError for an unknown suite or when `only` leaves no measure, ImportError for
    pictures without matplotlib, RuntimeError for a device that is not there, and, in the end, when
    a measure broke.
    """
    if name not in SUITES:
        raise ValueError(f"unknown suite {name!r}; known ones: {', '.join(SUITES)}")
    measures = [measure for measure in SUITES[name] if only is None or only in measure.name]
    if not measures:
        raise ValueError(f"no measure of suite {name!r} has {only!r} in its name")
    if plot is not None:
        check_matplotlib()
        make_folder(plot)
    on_device = measures[0].run.setting.device == "cuda"
    if on_device:
        reason = gpu.unavailable("cuda")
        if reason is not None:
            raise RuntimeError(f"suite {name!r} cannot run here: {reason}")
        if block_kernels and (reason := cuda_blocks.allow("cuda")) is not None:
            raise RuntimeError(f"the block kernels cannot run here: {reason}")
        # dense products that add up in halves would miss the bound that every result is held to
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        machine = f"{gpu.card(torch.device('cuda'))}, torch {torch.__version__}"
    else:
        _warn_if_busy()
        machine = f"{processor()}, {cpu.active_instruction_set()}, torch {torch.__version__}"
    effort = QUICK if quick else Effort()
    if rounds is not None:
        effort = replace(effort, rounds=rounds)
    counts = (0,) if on_device else THREADS if threads is None else (threads,)
    console = options.console()
    taker = Suite(effort)
    outcomes: list[Outcome] = []
    # asked for once: it runs git
    where = report.circumstances()
    # what a device is asked first is told as soon as it is there
    blocks = sum(measure in BLOCKS for measure in measures)
    wanted = plan(measures, counts)
    for measure, count in _tracked(wanted, _measure_label):
        outcomes.append(_taken(taker, measure, count, keep_going=on_device))
        if json_file is not None:
            write_json(json_file, report.record(outcomes, effort, where=where))
        if len(outcomes) == blocks:
            console.print(f"{BLOCKS_TITLE}, {machine}", highlight=False, soft_wrap=True)
            console.print(report.block_table(outcomes, goals=goals))
        if outcomes[-1].failed and device_race.is_lost(torch.device("cuda")):
            break
    title = f"suite {name} on {machine}"
    console.print(report.table(outcomes, counts, title, goals=goals))
    missing = [(outcome.measure.row, outcome.unavailable) for outcome in outcomes]
    points: list[Point] = []
    roofs = None
    if plot and on_device:
        figures.save_block_speed_up(outcomes, machine, plot / "speed-up-gpu.png")
    elif plot:
        points, roofs = _pictures(plot, counts[0], effort, machine)
    missing += [(f"{point.candidate} {point.operation}", point.unavailable) for point in points]
    for text in report.reasons(missing):
        console.print(f"-  {text}", highlight=False, soft_wrap=True)
    if goals:
        console.print(report.summary(outcomes), highlight=False)
    if json_file is not None:
        write_json(json_file, report.record(outcomes, effort, points, roofs, where=where))
        console.print(f"written: {json_file}", highlight=False, soft_wrap=True)
    if plot is not None:
        console.print(f"drawn: {plot}", highlight=False, soft_wrap=True)
    broken = [outcome.measure.name for outcome in outcomes if outcome.failed]
    if broken:
        text = f"{len(broken)} measures broke: {'; '.join(broken)}"
        if len(outcomes) < len(wanted):
            text += f"; with the last the device was lost, {len(wanted) - len(outcomes)} are left"
        raise RuntimeError(text)


def _taken(taker: Suite, measure: Measure, threads: int, keep_going: bool) -> Outcome:
    """Take a measure; if asked to keep going, say of one that breaks what it said."""
    try:
        return taker.take(measure, threads)
    except Exception as error:
        if not keep_going:
            raise
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return Outcome(measure, threads, unavailable=f"broke: {text}", failed=True)


def _pictures(
    folder: Path, threads: int, effort: Effort, machine: str
) -> tuple[list[Point], Roofs]:
    """Draw speed-up against density and the roofline, and return what they show."""
    with threads_restored():
        torch.set_num_threads(threads)
        points = [
            point
            for density, block in _tracked(sweep.plan(), _sweep_label)
            for point in sweep.points(density, block, effort.rounds, effort.budget_s)
        ]
        roofs = probe()
    count = f"{threads} thread{'s' * (threads > 1)}"
    title = f"{BASE.n_in} -> {BASE.n_out}, batch {BASE.batch}, float32, {count}\n{machine}"
    figures.save_speed_up(points, title, folder / "speed-up.png")
    figures.save_roofline(points, roofs, title, folder / "roofline.png")
    return points, roofs


def _warn_if_busy() -> None:
    """Warn when other processes would be timed too; Windows does not tell."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > QUIET_LOAD:
        warnings.warn(
            f"this machine is busy (load average {load:.1f}): figures with two threads will be "
            f"wrong, others uncertain; stop other work and wait a minute",
            stacklevel=2,
        )


def _measure_label(item: tuple[Measure, int]) -> str:
    measure, threads = item
    count = f", {threads} thread{'s' * (threads > 1)}" if threads else ""
    return f"{measure.name}{count}"


def _sweep_label(item: tuple[float, int]) -> str:
    density, block = item
    return f"pictures: density 1/{1 / density:.0f}, {block}x{block}"


def _tracked(items: Sequence[Item], label: Callable[[Item], str]) -> Iterator[Item]:
    """Yield each item while standard error shows its label: a bar, or lines off a terminal."""
    console = Console(stderr=True, markup=False)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(items))
        for number, item in enumerate(items):
            progress.update(task, description=label(item), completed=number)
            if not console.is_terminal:
                line = f"[{number + 1}/{len(items)}] {label(item)}"
                console.print(line, highlight=False, soft_wrap=True)
            yield item
        progress.update(task, completed=len(items))

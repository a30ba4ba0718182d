"""Compile every Triton kernel that the GPU suite may race, in several processes.

Triton keeps what it compiled in the user's cache, where the suite's own process finds it.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Annotated, Literal, get_args

import torch
import typer

from dnc_sparse.backends import triton
from dnc_sparse.backends.calls import calls
from dnc_sparse.backends.tiles import FunctionName
from dnc_sparse.bench.gpu_suite import GPU_SUITE
from dnc_sparse.bench.measures import Setting

FUNCTIONS: tuple[FunctionName, ...] = get_args(FunctionName)
MOST_PROCESSES = 12
# what the interpreter of a CPU takes a second for
TOY = Setting(64, 64, 16, 1 / 2, 16, "float16", device="cpu")


def compile_one(setting: Setting) -> str:
    """Run every tile of a setting's junction once."""
    problem = setting.problem()
    pattern, layer, runs = problem.pattern, problem.layer, 0
    arguments = calls(pattern, problem.x, problem.grad_y, layer.weight, layer.bias)
    device, dtype = problem.x.device, problem.dtype
    reason = triton.unavailable(device.type, dtype, pattern.block)
    if reason is not None:
        return f"{setting}: {reason}"
    with torch.no_grad():
        for function in FUNCTIONS:
            for tile in triton.candidates(function, pattern, dtype, problem.batch, device):
                triton.run(function, tile, arguments[function])
                runs += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    return f"{setting}: {runs} tiles"


def main(
    device: Literal["cuda", "cpu"] = "cuda",
    processes: Annotated[int, typer.Option(help="That compile at a time.")] = MOST_PROCESSES,
) -> None:
    """Compile for all settings of the suite; on the CPU, try it with one small one."""
    settings = list(dict.fromkeys(measure.run.setting for measure in GPU_SUITE))
    if device == "cpu":
        settings = [TOY]
    workers = min(processes, os.cpu_count() or 1, len(settings))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for line in pool.map(compile_one, settings):
            typer.echo(line)


if __name__ == "__main__":
    typer.run(main)

"""Compile every Triton kernel of the GPU suite, in several processes, before anything is timed.

Triton keeps what it compiled in the user's cache, where the suite's own process finds it.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
import typer

from dnc_sparse.backends import gpu
from dnc_sparse.bench.gpu_suite import GPU_SUITE
from dnc_sparse.bench.measures import Setting

MOST_PROCESSES = 12


def compile_one(setting: Setting) -> str:
    """Run every sparse method of a setting's junction once."""
    problem = setting.problem()
    pattern, layer = problem.pattern, problem.layer
    bias = layer.bias
    arguments = {
        "forward": (problem.x, layer.weight, bias, pattern, False),
        "grad_input": (problem.grad_y, layer.weight, pattern),
        "grad_weight": (problem.grad_y, problem.x, pattern),
        "backward": (problem.grad_y, problem.x, layer.weight, pattern, True),
    }
    runs = 0
    with torch.no_grad():
        for function, own in arguments.items():
            case = gpu.Case(function, pattern, problem.batch, problem.dtype, problem.x.device)
            for method in case.methods():
                if method != gpu.SEPARATE:
                    gpu.compute(method, function, own)
                    runs += 1
    torch.cuda.synchronize()
    return f"{setting}: {runs} methods"


def main() -> None:
    """Compile for all settings of the suite."""
    settings = list(dict.fromkeys(measure.run.setting for measure in GPU_SUITE))
    workers = min(MOST_PROCESSES, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for line in pool.map(compile_one, settings):
            typer.echo(line)


if __name__ == "__main__":
    main()

"""Each small launch of `dnc_sparse.bench.triton_launches` under compute-sanitizer's memcheck.

Each has a process of its own, for an illegal address ends the process that hits it. One JSON line a
launch; do not believe a single report of memcheck beside right numbers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Annotated, Literal

import torch
import typer
from gpu_children import ending

from dnc_sparse.bench.triton_launches import launches

SANITIZER = ("compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9")
# at a time, each with a context and a compiler
PROCESSES = 8


def under_sanitizer(number: int, device: str) -> subprocess.CompletedProcess[str]:
    """Run one launch in a process of its own."""
    command = [*SANITIZER, sys.executable, __file__, "--launch", str(number), "--device", device]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main(
    device: Literal["cuda", "cpu"] = "cuda",
    only: Annotated[str, typer.Option(help="Only launches whose name contains this.")] = "",
    launch: Annotated[int | None, typer.Option(help="This one, without the sanitizer.")] = None,
) -> None:
    """Run every launch; exit 1 unless all are right and clean."""
    # the interpreter of the CPU multiplies the bits of bfloat16
    dtype = torch.bfloat16 if device == "cuda" else torch.float16
    every = list(launches(dtype, torch.device(device)))
    if launch is not None:
        every[launch].check(dtype, torch.device(device))
        return
    chosen = [number for number, one in enumerate(every) if only in str(one)]
    clean = 0
    with ThreadPoolExecutor(PROCESSES) as pool:
        running = {pool.submit(under_sanitizer, number, device): number for number in chosen}
        for future in as_completed(running):
            done = future.result()
            row = {"case": str(every[running[future]]), "verdict": "clean"}
            clean += done.returncode == 0
            if done.returncode != 0:
                typer.echo(done.stdout + done.stderr)
                row |= {"verdict": "failed", "detail": ending(done.returncode)}
            typer.echo(json.dumps(row))
            sys.stdout.flush()
    typer.echo(f"{clean} of {len(chosen)} launches clean")
    raise typer.Exit(code=clean != len(chosen) or not chosen)


if __name__ == "__main__":
    typer.run(main)

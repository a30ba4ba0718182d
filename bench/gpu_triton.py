"""The Triton kernels' first minutes on a card: right, how fast, and clean under memcheck.

    python bench/gpu_triton.py                    # the favourite tiles: right? how fast?
    python bench/gpu_triton.py --memcheck         # every tile that may be raced, in small launches
    python bench/gpu_triton.py --launch "forward, block 16"     # what memcheck runs

4096 -> 4096 with clash-free blocks in bfloat16; 16,384 samples where timed, few for memcheck.
Tiles are those for the large batch throughout. One JSON line a case.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import torch
import typer
from gpu_children import Row, ending, in_children
from gpu_clock import microseconds
from torch import Tensor

from dnc_sparse.backends import reference, triton
from dnc_sparse.backends.tiles import FunctionName
from dnc_sparse.patterns import clash_free

Device = Literal["cuda", "cpu"]
FUNCTIONS: tuple[FunctionName, ...] = get_args(FunctionName)
SIDES, MEMCHECK_SIDES = (128, 64, 32, 16), (16, 32, 64)
INVERSE_DENSITIES = (8, 2)
NEURONS, SAMPLES = 4096, 16384
# not a multiple of any tile's
FEW_SAMPLES = 200
# largest error, in parts of the largest number, of results rounded to 16 bits
AGREEMENT = 0.02
SANITIZER = ("compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9")
# processes at a time, each with a context and a compiler
PROCESSES = 6


@dataclass(frozen=True)
class Case:
    """A function of a junction in square blocks; with `samples` set, a launch of so few."""

    function: FunctionName
    side: int
    inverse_density: int
    device: Device
    samples: int = 0

    def run(self) -> Row:
        """Check the case, and time it or try every tile with few samples."""
        # the interpreter of the CPU is slow, and multiplies the bits of bfloat16
        on_card = self.device == "cuda"
        neurons, batch = (NEURONS, SAMPLES) if on_card else (8 * self.side, 32)
        dtype = torch.bfloat16 if on_card else torch.float16
        pattern = clash_free(
            neurons, neurons, density=1 / self.inverse_density, block=self.side, seed=1
        )
        device = torch.device(self.device)
        tiles = triton.candidates(self.function, pattern, dtype, batch, device)
        if not tiles:
            return {"verdict": "right", "detail": "no kernel of its own", **self._labels()}
        torch.manual_seed(0)

        def draw(*size: int) -> Tensor:
            return torch.randn(size, device=device).to(dtype)

        x, grad_y = (draw(self.samples or batch, neurons) for _ in range(2))
        weight, bias = draw(*pattern.weight_shape), draw(neurons)
        arguments: dict[str, tuple[Any, ...]] = {
            "forward": (x, weight, bias, pattern, True),
            "grad_input": (grad_y, weight, pattern),
            "grad_weight": (grad_y, x, pattern),
            "backward": (grad_y, x, weight, pattern, True),
        }
        mine = arguments[self.function]
        expected = _tensors(getattr(reference, self.function)(*mine))
        errors: dict[str, float] = {}
        for tile in tiles if self.samples else tiles[:1]:
            # the last words of a process that memcheck ends
            typer.echo(f"{self.function}, block {self.side}: {tile}")
            sys.stdout.flush()
            results = _tensors(triton.run(self.function, tile, mine))
            errors[str(tile)] = max(map(_error, results, expected))
        # a NaN is no agreement either
        right = all(error <= AGREEMENT for error in errors.values())
        row = {"verdict": "right" if right else "wrong", **self._labels()}
        row["errors"] = {tile: float(f"{error:.2g}") for tile, error in errors.items()}
        if self.samples == 0:
            time_us = microseconds(lambda: triton.run(self.function, tiles[0], mine), self.device)
            products = 2 if self.function == "backward" else 1
            operations = 2 * products * batch * pattern.n_edges
            row |= {"us": round(time_us, 1), "tflops": round(operations / time_us / 1e6, 1)}
        return row

    def _labels(self) -> dict[str, Any]:
        return {
            "function": self.function,
            "block": self.side,
            "inverse_density": self.inverse_density,
        }


def _tensors(value: Any) -> list[Tensor]:
    each = value if isinstance(value, tuple) else (value,)
    return [tensor for tensor in each if tensor is not None]


def _error(result: Tensor, expected: Tensor) -> float:
    size = float(expected.float().abs().max())
    return float((result.float() - expected.float()).abs().max()) / size


def memcheck(names: Sequence[str], device: Device) -> bool:
    """Run each launch in a process of its own under compute-sanitizer; whether all were clean."""

    def start(name: str) -> tuple[str, subprocess.CompletedProcess[str]]:
        command = [*SANITIZER, sys.executable, __file__, "--launch", name, "--device", device]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return name, done

    clean = 0
    with ThreadPoolExecutor(PROCESSES) as pool:
        for future in as_completed([pool.submit(start, name) for name in names]):
            name, done = future.result()
            clean += done.returncode == 0
            row = {"case": name, "verdict": "clean"}
            if done.returncode != 0:
                typer.echo(done.stdout + done.stderr)
                row["verdict"] = f"failed: {ending(done.returncode)}"
            typer.echo(json.dumps(row))
            sys.stdout.flush()
    typer.echo(f"{clean} of {len(names)} launches clean")
    return clean == len(names) > 0


def main(
    device: Device = "cuda",
    only: Annotated[str, typer.Option(help="Only cases whose name contains this.")] = "",
    check: Annotated[bool, typer.Option("--memcheck", help="Under compute-sanitizer.")] = False,
    launch: Annotated[str, typer.Option(help="One launch of memcheck's.")] = "",
    limit_s: Annotated[float, typer.Option(help="Seconds that one case may take.")] = 25,
) -> None:
    """Run every case in a child of its own; exit 1 unless all are right."""
    small, few = bool(check or launch), FEW_SAMPLES if device == "cuda" else 20
    every = {
        f"{function}, block {side}" + f", 1/{n}" * (not small): Case(
            function, side, n, device, samples=few if small else 0
        )
        for n in INVERSE_DENSITIES[: 1 if small else None]
        for side in (MEMCHECK_SIDES if small else SIDES)
        for function in FUNCTIONS
    }
    cases = {name: case for name, case in every.items() if only in name}
    if launch:
        row = cases[launch].run()
        typer.echo(json.dumps(row))
        raise typer.Exit(code=row["verdict"] != "right")
    if check:
        raise typer.Exit(code=not memcheck(tuple(cases), device))
    right = 0
    for row in in_children(tuple(cases), lambda name: cases[name].run(), limit_s):
        right += row["verdict"] == "right"
        typer.echo(json.dumps(row))
        sys.stdout.flush()
    typer.echo(f"{right} of {len(cases)} cases right")
    raise typer.Exit(code=right != len(cases))


if __name__ == "__main__":
    typer.run(main)

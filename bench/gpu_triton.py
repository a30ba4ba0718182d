"""The Triton kernels' first minutes on a card: each function's favourite tile, right and timed.

4096 -> 4096 with clash-free blocks in bfloat16 and 16,384 samples. Each case runs in a child with a
time limit, which is replaced when it ends. One JSON line a case; `--device cpu` tries small ones in
Triton's interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import torch
import typer
from gpu_children import Row, report
from gpu_clock import microseconds
from torch import Tensor

from dnc_sparse.backends import reference, triton
from dnc_sparse.backends.calls import calls
from dnc_sparse.backends.device_race import tensors
from dnc_sparse.backends.tiles import FunctionName
from dnc_sparse.patterns import clash_free

Device = Literal["cuda", "cpu"]
FUNCTIONS: tuple[FunctionName, ...] = get_args(FunctionName)
# by 1 / density: all blocks first, then what else the CUDA kernels are judged by
INVERSE_DENSITIES = {8: (128, 64, 32, 16), 2: (128, 64, 32, 16), 4: (128, 64), 16: (128, 64)}
NEURONS, SAMPLES = 4096, 16384
# largest error, in parts of the largest number, of results rounded to 16 bits
AGREEMENT = 0.02


@dataclass(frozen=True)
class Case:
    """A function of a junction in square blocks."""

    function: FunctionName
    side: int
    inverse_density: int

    def run(self, on: Device) -> Row:
        """Compare the favourite with dense products, and time it."""
        # the interpreter is slow, and multiplies the bits of bfloat16
        neurons, batch = (NEURONS, SAMPLES) if on == "cuda" else (8 * self.side, 32)
        dtype, device = torch.bfloat16 if on == "cuda" else torch.float16, torch.device(on)
        pattern = clash_free(
            neurons, neurons, density=1 / self.inverse_density, block=self.side, seed=1
        )
        row: Row = {"function": self.function, "block": self.side}
        row |= {"inverse_density": self.inverse_density}
        tiles = triton.candidates(self.function, pattern, dtype, batch, device)
        if not tiles:
            return row | {"verdict": "right", "detail": "two functions one after the other"}
        torch.manual_seed(0)

        def draw(*size: int) -> Tensor:
            return torch.randn(size, device=device).to(dtype)

        x, grad_y = draw(batch, neurons), draw(batch, neurons)
        weight, bias = draw(*pattern.weight_shape), draw(neurons)
        arguments = calls(pattern, x, grad_y, weight, bias, relu=True)[self.function]
        results = tensors(triton.run(self.function, tiles[0], arguments))
        expected = tensors(getattr(reference, self.function)(*arguments))
        errors = list(map(_error, results, expected))
        time_us = microseconds(lambda: triton.run(self.function, tiles[0], arguments), on)
        products = 2 if self.function == "backward" else 1
        operations = 2 * products * batch * pattern.n_edges
        return row | {
            # a NaN is no agreement either
            "verdict": "right" if all(error <= AGREEMENT for error in errors) else "wrong",
            "tile": str(tiles[0]),
            "errors": [float(f"{error:.2g}") for error in errors],
            "us": round(time_us, 1),
            "tflops": round(operations / time_us / 1e6, 1),
        }


def _error(result: Tensor, expected: Tensor) -> float:
    """Return the largest error, in parts of the largest number; NaN where a result has one."""
    size = float(expected.float().abs().max())
    return float((result.float() - expected.float()).abs().max()) / size


def main(
    device: Device = "cuda",
    only: Annotated[str, typer.Option(help="Only cases whose name contains this.")] = "",
    limit_s: Annotated[float, typer.Option(help="Seconds that one case may take.")] = 25,
) -> None:
    """Run every case in a child; exit 1 unless all are right."""
    every = {
        f"{function}, block {side}, 1/{n}": Case(function, side, n)
        for n, sides in INVERSE_DENSITIES.items()
        for side in sides
        for function in FUNCTIONS
    }
    cases = [name for name in every if only in name]
    raise typer.Exit(code=report(cases, lambda name: every[name].run(device), limit_s))


if __name__ == "__main__":
    typer.run(main)

"""The roofs of a card, one JSON line each: copying, and the dense products that sparse ones face.

`forward`, `grad_input` and `grad_weight` are those of a dense 4096 -> 4096 layer with 16,384
samples in bfloat16; together they are the step that block-sparse steps are compared with.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

import torch
import typer
from gpu_clock import microseconds
from torch import Tensor

COPIED_BYTES = 2**32


def main(
    device: Literal["cuda", "cpu"] = "cuda",
    scale: Annotated[int, typer.Option(help="Divide every side by this.")] = 1,
) -> None:
    """Time everything."""
    # as `nn.Linear` has it by default, but without halves in the sums of IEEE products
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    _copy(COPIED_BYTES // scale**2, device)

    def draw(rows: int, columns: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.randn(rows // scale, columns // scale, device=device).to(dtype)

    left, right = draw(8192, 8192), draw(8192, 8192)
    _product("square, 8192", left, right, device)
    x, weight, grad_y = draw(16384, 4096), draw(4096, 4096), draw(16384, 4096)
    _product("forward", x, weight.mT, device)
    _product("grad_input", grad_y, weight, device)
    _product("grad_weight", grad_y.mT, x, device)
    _product("IEEE float32", x.float(), weight.mT.float(), device)


def _copy(moved_bytes: int, device: str) -> None:
    source = torch.empty(moved_bytes // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    time_us = microseconds(lambda: target.copy_(source), device)
    _say("copy", time_us, gb_per_second=moved_bytes / time_us / 1e3)


def _product(name: str, left: Tensor, right: Tensor, device: str) -> None:
    time_us = microseconds(lambda: left @ right, device)
    operations = 2 * left.numel() * right.shape[1]
    _say(name, time_us, tflops=operations / time_us / 1e6)


def _say(name: str, time_us: float, **rates: float) -> None:
    row = {"roof": name, "us": round(time_us, 1)}
    row |= {unit: round(rate, 3) for unit, rate in rates.items()}
    typer.echo(json.dumps(row))


if __name__ == "__main__":
    typer.run(main)

"""One small launch of each Triton kernel: `python -m dnc_sparse.bench.triton_launches`.

For compute-sanitizer, which slows kernels down, and for a first contact: each kernel by the tile
that its full-size junction takes first, on 1024 neurons and a batch of several ragged tiles. Each
launch is named before it runs, and its results must equal the oracle's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from dnc_sparse.backends import reference, triton
from dnc_sparse.backends.calls import calls
from dnc_sparse.backends.tiles import FunctionName, Tile
from dnc_sparse.patterns import Pattern, clash_free

# blocks with inverse densities: 512 or 256 gathered neurons, as at 1/8 and 1/16 of 4096
JUNCTIONS = ((16, 2), (32, 4), (64, 2), (64, 4))
NEURONS, BATCH, FULL_BATCH, PARTS = 1024, 300, 16384, 2
KERNELS: dict[str, FunctionName] = {
    "streamed": "forward",
    "resident": "grad_input",
    "separate": "grad_weight",
    "fused": "backward",
}


class Launch(NamedTuple):
    """A function of a junction by one tile; in two parts, `total` runs as well."""

    function: FunctionName
    tile: Tile
    pattern: Pattern

    def __str__(self) -> str:
        return f"{self.function} of {self.pattern.block[0]}x{self.pattern.block[1]}: {self.tile}"

    def check(self, dtype: torch.dtype, device: torch.device) -> None:
        """Compare the launch with the oracle on small integers, which any order sums exactly."""
        generator = torch.Generator().manual_seed(0)

        def integers(*shape: int) -> Tensor:
            return torch.randint(-1, 2, shape, generator=generator).to(device, dtype)

        p = self.pattern
        x, grad_y = integers(BATCH, p.n_in), integers(BATCH, p.n_out)
        weight, bias = integers(*p.weight_shape), integers(p.n_out)
        launched = calls(p, x, grad_y, weight, bias, relu=True)[self.function]
        results = triton.run(self.function, self.tile, launched)
        widened = (a.float() if isinstance(a, Tensor) else a for a in launched)
        truths = getattr(reference, self.function)(*widened)
        if isinstance(results, Tensor):
            results, truths = (results,), (truths,)
        for result, truth in zip(results, truths, strict=True):
            wrong = int((result.float() != truth).sum())
            if wrong:
                raise RuntimeError(
                    f"{self}: {wrong} of {truth.numel()} numbers differ from the oracle's; "
                    f"do not use this tile on {device}"
                )


def launches(dtype: torch.dtype, device: torch.device) -> Iterator[Launch]:
    """Give each kernel for blocks of 16, 32 and 64."""
    for block, inverse_density in JUNCTIONS:
        pattern = clash_free(NEURONS, NEURONS, density=1 / inverse_density, block=block, seed=1)
        for kernel, function in KERNELS.items():
            ranked = triton.ranked(function, pattern, dtype, FULL_BATCH, device)
            tile = next(tile for _, tile in ranked if tile.kernel == kernel)
            parts = 1 if kernel == "streamed" else PARTS
            yield Launch(function, replace(tile, parts=parts), pattern)


def main() -> None:
    """Run them all on the current CUDA device."""
    device, dtype = torch.device("cuda"), torch.bfloat16
    for launch in launches(dtype, device):
        sys.stdout.write(f"{launch} ... ")
        sys.stdout.flush()
        launch.check(dtype, device)
        torch.cuda.synchronize()
        sys.stdout.write("right\n")


if __name__ == "__main__":
    main()

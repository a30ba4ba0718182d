"""The candidates over a range of densities: what the pictures show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dnc_sparse.bench.candidates import CANDIDATES
from dnc_sparse.bench.cpu_suite import DENSITIES
from dnc_sparse.bench.junction import measure
from dnc_sparse.bench.measures import BASE
from dnc_sparse.patterns import nearest

# block sides, and who is shown at each; those that ignore blocks are shown once
SHOWN = {
    1: ("onednn", "bfloat16", "masked", "csr", "scipy", "sparseprop", "sparselab", "gather"),
    4: ("bsr",),
    16: ("bsr",),
}
BLOCKED = {CANDIDATES[name].name for name in ("sparse", "bsr")}


@dataclass(frozen=True)
class Point:
    """One candidate at one density, in one operation.

    `flops` are the useful ones of a forward pass, `n_bytes` its bytes of x, weights and y.

    `seconds` and `speed_up` (over `nn.Linear`) are None where it is unavailable.
    """

    candidate: str
    operation: str
    density: float
    flops: float
    n_bytes: float
    seconds: float | None = None
    speed_up: float | None = None
    unavailable: str | None = None

    @property
    def intensity(self) -> float:
        """Useful operations per byte."""
        return self.flops / self.n_bytes


def plan(densities: Sequence[float] = DENSITIES) -> list[tuple[float, int]]:
    """Return the densities and block sides of a sweep."""
    return [(density, block) for density in densities for block in SHOWN]


def points(density: float, block: int, rounds: int, budget_s: float | None) -> list[Point]:
    """Time the candidates at one density and block size in one run, in float32.

    It has torch's thread count; rounds are bounded by `budget_s` as in `interleaved`.
    """
    pattern = nearest(BASE.n_in, BASE.n_out, density=density, block=block)
    n_values = BASE.batch * (pattern.n_in + pattern.n_out) + pattern.n_edges
    timings = measure(
        *(pattern, BASE.batch), rounds=rounds, against=SHOWN[block], budget_s=budget_s
    )
    return [
        Point(
            row.candidate + (f" {block}x{block}" if row.candidate in BLOCKED else ""),
            row.operation,
            pattern.density,
            flops=2.0 * pattern.n_edges * BASE.batch,
            n_bytes=4.0 * n_values,
            seconds=row.seconds,
            speed_up=None if row.ratio_to_dense is None else 1 / row.ratio_to_dense,
            unavailable=row.unavailable,
        )
        for row in timings
        if block == 1 or row.candidate in BLOCKED
    ]

"""One junction: every layer asked for, in one run, beside `nn.Linear`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dnc_sparse.bench.candidates import CANDIDATES, Bench, check_names
from dnc_sparse.bench.problem import Problem
from dnc_sparse.bench.timer import interleaved
from dnc_sparse.patterns import Pattern

JUNCTION_OPERATIONS = ("forward", "step")
AGAINST = ("linear", "onednn", "csr")


@dataclass(frozen=True)
class Timing:
    """Median seconds of one candidate in one operation, and its ratio to dense in the same run.

    Both are None, and `unavailable` says why, where the candidate cannot do the operation.
    """

    candidate: str
    operation: str
    seconds: float | None = None
    ratio_to_dense: float | None = None
    unavailable: str | None = None


def measure(
    pattern: Pattern,
    batch: int,
    dtype: torch.dtype = torch.float32,
    rounds: int = 30,
    *,
    against: Sequence[str] = AGAINST,
    operations: Sequence[str] = JUNCTION_OPERATIONS,
    budget_s: float | None = None,
) -> list[Timing]:
    """Time `nn.Linear`, the sparse layer and the candidates named, with torch's thread count.

    All run in turn; `budget_s` bounds the rounds of each operation as in `interleaved`.

    Raises AssertionError when a candidate's result is off the oracle's by more than rounding,
    ValueError for an unknown candidate or operation.
    """
    check_names(against)
    names = list(dict.fromkeys(["linear", "sparse", *against]))
    bench = Bench(Problem(pattern, batch, dtype))
    timings = []
    for operation in operations:
        reasons = {name: bench.unavailable(name, operation) for name in names}
        runs = {name: bench.operation(name, operation) for name in names if reasons[name] is None}
        medians = dict(
            zip(runs, interleaved(list(runs.values()), rounds, budget_s=budget_s), strict=True)
        )
        for name in names:
            row = (CANDIDATES[name].name, operation)
            if reasons[name] is None:
                ratio = medians[name] / medians["linear"]
                timings.append(Timing(*row, medians[name], ratio))
            else:
                timings.append(Timing(*row, unavailable=reasons[name]))
    return timings

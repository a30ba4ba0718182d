"""What the suite measures, as data: two timings, the ratio between them, and its goal."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dnc_sparse.bench.problem import Problem
from dnc_sparse.patterns import nearest

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
}
# multiplications of the dense layer from which a measure is left out of a quick run
HEAVY = 2**31


@dataclass(frozen=True)
class Setting:
    """One junction: sizes, samples, density asked for, block side, dtype, family, device."""

    n_in: int = 1024
    n_out: int = 1024
    batch: int = 256
    density: float = 1 / 8
    block: int = 1
    dtype: str = "float32"
    family: str = "auto"
    device: str = "cpu"

    def problem(self) -> Problem:
        """Draw the pattern of the nearest feasible density, and all inputs."""
        pattern = nearest(
            self.n_in, self.n_out, density=self.density, block=self.block, family=self.family
        )
        return Problem(pattern, self.batch, DTYPES[self.dtype], self.device)

    def __str__(self) -> str:
        block = "" if self.block == 1 else f", {self.block}x{self.block}"
        dtype = "" if self.dtype == "float32" else f", {self.dtype}"
        density = f"1/{1 / self.density:.0f}"
        family = "" if self.family == "auto" else f", {self.family}"
        return f"{self.n_in} -> {self.n_out}, batch {self.batch}, {density}{block}{dtype}{family}"


@dataclass(frozen=True)
class Run:
    """An operation of one candidate; with the suite's number of threads when it names none."""

    candidate: str
    operation: str
    setting: Setting
    threads: int | None = None


@dataclass(frozen=True)
class Goal:
    """What a ratio is to be: "<=", "<" or ">=" a limit."""

    comparison: str
    limit: float

    def met(self, value: float) -> bool:
        """Whether the value is as it should be."""
        return COMPARISONS[self.comparison](value, self.limit)

    def __str__(self) -> str:
        return f"{self.comparison} {self.limit:g}"


@dataclass(frozen=True)
class Measure:
    """The time of `run` over that of `against`, times `factor`; `detail` tells it in its `row`."""

    row: str
    detail: str
    run: Run
    against: Run
    goal: Goal
    factor: float = 1.0
    hot: bool = False

    @property
    def name(self) -> str:
        """Row and detail in one."""
        return f"{self.row} ({self.detail})"

    @property
    def heavy(self) -> bool:
        """Whether the dense layer has very many multiplications."""
        s = self.run.setting
        return s.n_in * s.n_out * s.batch >= HEAVY

    def value(self, seconds: float, against: float) -> float:
        """Return the ratio of two times."""
        return self.factor * seconds / against


BASE = Setting()

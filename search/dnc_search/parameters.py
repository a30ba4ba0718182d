"""What may be searched: a number in a range, or one of several values.

| name   | meaning                                                                | shape  |
|--------|------------------------------------------------------------------------|--------|
| config | a candidate: the value of each of its parameters, by name              | dict   |
| u      | a coordinate of the unit cube, from which a parameter's value is drawn | 0..1   |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

Value = int | float | str
Config = Mapping[str, Value]


@dataclass(frozen=True)
class Integer:
    """A whole number in low..high, both included, spread evenly or (`log`) over its logarithm.

    Raises ValueError for an empty range, and for a log range that does not start above 0.
    """

    name: str
    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, log=self.log)

    def from_unit(self, u: float) -> int:
        """Return the value at u in 0..1; every value has the same share of a linear range."""
        if self.log:
            value = math.floor(_between(u, math.log(self.low), math.log(self.high + 1), exp=True))
        else:
            value = math.floor(_between(u, self.low, self.high + 1))
        return min(max(value, self.low), self.high)

    def check(self, value: Value) -> None:
        """Raise ValueError unless the value is in the range."""
        if not isinstance(value, int) or not self.low <= value <= self.high:
            raise ValueError(
                f"{self.name} must be a whole number in {self.low}..{self.high}, got {value!r}"
            )


@dataclass(frozen=True)
class Real:
    """A number in low..high, spread evenly or (`log`) over its logarithm.

    Raises ValueError for an empty range, and for a log range that does not start above 0.
    """

    name: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, log=self.log)

    def from_unit(self, u: float) -> float:
        """Return the value at u in 0..1."""
        if self.log:
            value = _between(u, math.log(self.low), math.log(self.high), exp=True)
        else:
            value = _between(u, self.low, self.high)
        return min(max(value, self.low), self.high)

    def check(self, value: Value) -> None:
        """Raise ValueError unless the value is in the range."""
        if not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            raise ValueError(f"{self.name} must lie in {self.low:g}..{self.high:g}, got {value!r}")


@dataclass(frozen=True)
class Choice:
    """One of several values without an order. Raises ValueError for none, or one given twice."""

    name: str
    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError(f"{self.name} has no values to choose from; give at least one")
        if len(set(self.options)) < len(self.options):
            raise ValueError(f"{self.name} has a value twice: {self.options}; give each once")

    def from_unit(self, u: float) -> Value:
        """Return the option at u in 0..1; each has the same share."""
        return self.options[min(int(u * len(self.options)), len(self.options) - 1)]

    def check(self, value: Value) -> None:
        """Raise ValueError unless the value is one of the options."""
        if value not in self.options:
            known = ", ".join(map(str, self.options))
            raise ValueError(f"{self.name} must be one of {known}; got {value!r}")


Parameter = Integer | Real | Choice


def _between(u: float, low: float, high: float, *, exp: bool = False) -> float:
    value = low + u * (high - low)
    return math.exp(value) if exp else value


def _check_range(name: str, low: float, high: float, *, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} must have finite limits, got {low}..{high}")
    if low > high:
        raise ValueError(f"the range of {name} is empty: {low}..{high}; give the lower limit first")
    if log and low <= 0:
        raise ValueError(f"a log range must start above 0, but {name} runs from {low} to {high}")

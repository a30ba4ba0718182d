"""Kernels and a clock that stand in for a GPU's, to test what the planner makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import Case as Inputs
from support import normals

from dnc_sparse.backends import device_race, gpu, reference
from dnc_sparse.backends.gpu import Case, Method
from dnc_sparse.backends.planner import Decision
from dnc_sparse.patterns import Pattern, nearest

PATTERN = nearest(256, 256, density=1 / 8, block=16)
BATCH = 40
# what a kernel does before it computes
Before = Callable[[str], None]


def put_in_place(monkeypatch: pytest.MonkeyPatch, before: Before = lambda name: None) -> list[str]:
    """Put stand-ins in place of all kernels; the list fills with what was called.

    Triton's have configurations a and b of every function, CUDA's a c of forward.
    """
    calls: list[str] = []

    def stand_in(name: str, functions: dict[str, tuple[str, ...]]) -> Any:
        def run(function: str, config: str, arguments: tuple[Any, ...]) -> Any:
            calls.append(f"{name} {config} {function}")
            before(f"{name} {config}")
            return getattr(reference, function)(*arguments)

        return SimpleNamespace(
            unavailable=lambda device, dtype, block: (
                "too precise" if dtype == torch.float64 else None
            ),
            candidates=lambda function, *junction: functions.get(function, ()),
            run=run,
        )

    kernels = {
        "triton": stand_in("triton", dict.fromkeys(gpu.FUNCTIONS, ("a", "b"))),
        "cuda": stand_in("cuda", {"forward": ("c",)}),
    }
    monkeypatch.setattr(gpu, "KERNELS", kernels)
    monkeypatch.setattr(gpu, "card", lambda device: "a card")
    monkeypatch.setattr(device_race, "synchronize", lambda device: None)
    return calls


class Card:
    """A device on which methods take the seconds that they are said to, `compiling` a first time.

    The processor waits for it always.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], compiling: float = 0.0
    ) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.compiling = compiling
        self.compiled: list[str] = []
        self.runs = 0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)
        monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Reading(self))
        monkeypatch.setattr(device_race, "synchronize", lambda device: None)
        monkeypatch.setattr(gpu, "card", lambda device: "a card")
        monkeypatch.setattr(gpu, "compute", self._compute)
        monkeypatch.setattr(Case, "methods", lambda case: self.methods)

    def decide(self, function: str = "forward", pattern: Pattern = PATTERN) -> tuple[str, set[str]]:
        """Let the planner decide; return what it chose and what it timed, with the right time."""
        decision = decide(function, pattern)
        timed = {str(method): seconds for method, seconds in decision.seconds.items()}
        assert timed == pytest.approx({name: self.seconds[name] for name in timed})
        return str(decision.method), set(timed)

    @property
    def methods(self) -> list[Method]:
        """The sparse methods, in the order they are named in."""
        names = [name.split() for name in self.seconds if name != "dense"]
        return [Method(name[0], name[1] if len(name) > 1 else None) for name in names]

    def _compute(self, method: Method, function: str, arguments: Sequence[Any]) -> torch.Tensor:
        name = str(method)
        if name not in self.compiled:
            self.compiled.append(name)
            self.now += self.compiling
        self.now += self.seconds[name]
        self.runs += 1
        return torch.ones(1)


class Reading:
    """An event of a card's clock."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.at = 0.0

    def record(self) -> None:
        self.at = self.card.now

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Reading) -> float:
        return (end.at - self.at) * 1e3


def decide(
    function: str = "forward", pattern: Pattern = PATTERN, dtype: torch.dtype = torch.float32
) -> Decision[Method]:
    """Let the planner decide a function."""
    inputs = normals(pattern, BATCH, dtype)
    case = Case(function, pattern, BATCH, dtype, torch.device("cpu"))
    return gpu.decide(case, arguments(inputs)[function])


def arguments(inputs: Inputs) -> dict[str, tuple[Any, ...]]:
    """Return each function's arguments."""
    x, grad_y, weight, bias, p = (
        inputs.x, inputs.grad_y, inputs.weight, inputs.bias, inputs.pattern,
    )  # fmt: skip
    return {
        "forward": (x, weight, bias, p, False),
        "grad_input": (grad_y, weight, p),
        "grad_weight": (grad_y, x, p),
        "backward": (grad_y, x, weight, p, True),
    }

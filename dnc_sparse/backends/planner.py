"""Which method computes a function of a junction: a sparse kernel in one of its shapes, or another.

Rules come first and settle most cases: little work, and densities at which sparse kernels surely
win. Only where there is doubt are methods timed, once per case and machine, on the tensors of the
call that asked; `measurements` keeps what was found. docs/planner.md tells it to users.

| name    | meaning                                                                  |
|---------|--------------------------------------------------------------------------|
| method  | kernels of an instruction set with so many samples per tile, AMX, or     |
|         | dense                                                                    |
| samples | samples per packed tile; 0 leaves them to the kernels' own rule          |
| case    | what a choice depends on: function, pattern, batch, dtype                |
| work    | multiplications: edges, or all pairs if narrow, times samples            |
| narrow  | whether one side has so few neurons that moving the other's samples to   |
|         | and from tiles costs as much as a dense product                          |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor

from dnc_sparse.backends import amx, measurements
from dnc_sparse.backends.race import race
from dnc_sparse.patterns import Pattern

Mode = Literal["measured", "sparse", "dense"]
Arguments = tuple[Any, ...]

# work below which choosing costs more than it brings
LEAST_WORK = 2**21
# neurons up to which a side is narrow
NARROW = 32
# work at which kernels are tuned; larger batches are cut to it, but not below 256 samples
TUNED_WORK, TUNED_SAMPLES = 2**28, 256
# densities up to which sparse kernels surely win; without vector instructions any product is faster
CLEAR_DENSITY = {torch.float32: 1 / 8, torch.float64: 1 / 8, torch.bfloat16: 1 / 64}
CLEAR_DENSITY_SCALAR = 1 / 64
# densities from which dense is taken without measuring, with so many samples at least
RULED_DENSITY = {torch.float32: 3 / 4, torch.float64: 3 / 4, torch.bfloat16: 1 / 2}
RULED_DENSITY_AMX = 1 / 8
RULED_SAMPLES = 64
# density and samples from which AMX is
AMX_DENSITY, AMX_SAMPLES = 1 / 8, 4
# a rival must need less than this share of the favourite's time
MARGIN = 0.97


class Method(NamedTuple):
    """Kernels of an instruction set with `samples` per packed tile, or `AMX`, or `DENSE`."""

    instruction_set: str
    samples: int = 0

    def __str__(self) -> str:
        return f"{self.instruction_set}/{self.samples}" if self.samples else self.instruction_set


DENSE = Method("dense")
# weights expanded to tiles of the processor's matrix unit
AMX = Method("amx")
_kernels = cache(Method)
Seconds = Mapping[Method, float]


@dataclass(frozen=True)
class Function:
    """One of a junction's three functions, as sparse kernels, dense arithmetic and AMX do it.

    `sparse` takes a method and a number of threads before the arguments that all take; `prepare`
    does what it does once per pattern. `samples` are the tiles worth trying, `instruction_sets`
    those worth trying in a dtype, the favourite first.
    """

    name: str
    sparse: Callable[..., Tensor]
    dense: Callable[..., Tensor]
    amx: Callable[..., Tensor]
    prepare: Callable[[Pattern], object]
    samples: tuple[int, ...]
    instruction_sets: Callable[[torch.dtype], tuple[str, ...]]

    def favourite(self, dtype: torch.dtype) -> Method:
        """Return the kernels that run where nothing was measured."""
        return _kernels(self.instruction_sets(dtype)[0])

    def compute(self, method: Method, threads: int, arguments: Arguments) -> Tensor:
        """Return the function's value by a method."""
        if method is DENSE:
            return self.dense(*arguments)
        if method is AMX:
            return self.amx(*arguments)
        return self.sparse(method, threads, *arguments)


class Case(NamedTuple):
    """A function of one junction, with a number of samples in one dtype."""

    function: Function
    pattern: Pattern
    batch: int
    dtype: torch.dtype

    @property
    def samples(self) -> int:
        """Samples that the batch counts as: the next power of two, or none."""
        return 1 << bucket(self.batch) if self.batch else 0

    @property
    def work(self) -> int:
        """Multiplications that are worth comparing with others, for so many samples."""
        p = self.pattern
        return (p.n_in * p.n_out if self.narrow else p.n_edges) * self.samples

    @property
    def narrow(self) -> bool:
        """Whether moving samples to and from tiles costs as much as a dense product."""
        return min(self.pattern.n_in, self.pattern.n_out) <= NARROW

    @property
    def favourite(self) -> Method:
        """The kernels that run where nothing was measured."""
        return self.function.favourite(self.dtype)

    @property
    def on_amx(self) -> bool:
        """Whether AMX can compute it."""
        return amx.unavailable(self.dtype, self.pattern.block) is None

    @property
    def ruled_amx(self) -> bool:
        """Whether AMX surely is the fastest, or about as fast, where nothing is measured."""
        return self.pattern.density >= AMX_DENSITY and self.samples >= AMX_SAMPLES and self.on_amx

    @property
    def clear_density(self) -> float:
        """Density up to which sparse kernels surely win; 0 where there is none."""
        if self.narrow:
            return 0
        scalar = self.favourite.instruction_set == "scalar"
        return CLEAR_DENSITY_SCALAR if scalar else CLEAR_DENSITY[self.dtype]

    def key(self, threads: int) -> str:
        """Say what a measurement holds for."""
        p = self.pattern
        family = " ".join(filter(None, (p.family, p.options.get("bank_map"))))
        return (
            f"{self.function.name} {p.n_in} -> {p.n_out} {p.block[0]}x{p.block[1]}, {family}, "
            f"{p.n_edges} edges in {p.slots} slots, batch {self.samples}, "
            f"{dtype_name(self.dtype)}, {_count(threads)}"
        )


M = TypeVar("M")


@dataclass(frozen=True)
class Decision(Generic[M]):
    """A method, why it was chosen, and the seconds of those that were timed.

    `seconds` holds those of the methods that raced in the end; on the CPU, `tuning` those of the
    sparse kernels with one thread, of which only the best raced the other methods.
    """

    method: M
    reason: str
    tuning: Mapping[M, float] = field(default_factory=dict)
    seconds: Mapping[M, float] = field(default_factory=dict)


_mode: Mode = "measured"


@contextmanager
def use(mode: Mode) -> Iterator[None]:
    """Choose by measurement ("measured", the default), or always "sparse" or "dense", in the block.

    With "sparse" nothing is measured and kernels follow their own rules. Raises ValueError for
    another mode.
    """
    global _mode
    if mode not in get_args(Mode):
        raise ValueError(f"unknown mode {mode!r}; known ones: {', '.join(get_args(Mode))}")
    before, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = before


def mode() -> Mode:
    """Return how methods are chosen now: see `use`."""
    return _mode


def run(function: Function, pattern: Pattern, arguments: Arguments) -> Tensor:
    """Return the function's value by the best method; the first argument is [batch, ...]."""
    threads = torch.get_num_threads()
    return function.compute(choose(function, pattern, threads, arguments), threads, arguments)


def choose(function: Function, pattern: Pattern, threads: int, arguments: Arguments) -> Method:
    """Return the best method for these arguments, the first of which is [batch, ...]."""
    first: Tensor = arguments[0]
    batch, dtype = len(first), first.dtype
    chosen: dict[Any, Method] = pattern.plan("methods", dict)
    fixed = torch.are_deterministic_algorithms_enabled()
    key = (function.name, bucket(batch), dtype, threads, _mode, fixed)
    method = chosen.get(key)
    if method is None:
        case = Case(function, pattern, batch, dtype)
        chosen[key] = method = decide(case, threads, arguments).method
    return method


def bucket(batch: int) -> int:
    """Return the exponent of the power of two that a batch counts as; -1 for one of none."""
    return (batch - 1).bit_length() if batch else -1


def decide(case: Case, threads: int, arguments: Arguments) -> Decision[Method]:
    """Choose by rule where one settles it, else by a measurement, taken before or now."""
    if _mode != "measured":
        method = DENSE if _mode == "dense" else case.favourite
        return Decision(method, f"planner.use({_mode!r})")
    if case.pattern.n_edges == 0:
        return Decision(case.favourite, "no edges: nothing is multiplied")
    if case.work < LEAST_WORK:
        method = AMX if case.ruled_amx else case.favourite
        return Decision(method, f"less than {LEAST_WORK:,} multiplications: not measured")
    if torch.are_deterministic_algorithms_enabled():
        return _ruled(case)
    case.function.prepare(case.pattern)
    best, tuning = _tuned(case, arguments)
    if case.pattern.density <= case.clear_density:
        reason = (
            f"density at most 1/{1 / case.clear_density:g}: sparse wins in {dtype_name(case.dtype)}"
        )
        return Decision(best, reason, tuning)
    others = [AMX, DENSE] if case.on_amx else [DENSE]
    seconds = _measured(case, threads, [best, *others], arguments)
    return Decision(winner(seconds), f"measured with {_count(threads)}", tuning, seconds)


def _ruled(case: Case) -> Decision[Method]:
    """Choose without measuring, alike on all processors that have AMX and on all that do not."""
    if case.ruled_amx:
        return Decision(
            AMX,
            f"deterministic algorithms: amx from density {AMX_DENSITY:g} and {AMX_SAMPLES} "
            f"samples, not measured",
        )
    limit = RULED_DENSITY[case.dtype]
    if case.dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported():
        limit = RULED_DENSITY_AMX
    dense = case.pattern.density >= limit and case.samples >= RULED_SAMPLES
    return Decision(
        DENSE if dense else case.favourite,
        f"deterministic algorithms: dense from density {limit:g} and {RULED_SAMPLES} samples, "
        f"not measured",
    )


def _tuned(case: Case, arguments: Arguments) -> tuple[Method, Seconds]:
    """Choose among the sparse kernels: an instruction set, then samples per tile.

    With one thread always, so that results do not depend on their number.
    """
    most = max(TUNED_SAMPLES, TUNED_WORK // case.pattern.n_edges)
    cut = tuple(
        a[:most] if isinstance(a, Tensor) and a.shape[0] == case.batch and a.dim() == 2 else a
        for a in arguments
    )
    sets = [Method(name) for name in case.function.instruction_sets(case.dtype)]
    seconds = _measured(case, 1, sets, cut) if len(sets) > 1 else {}
    best = winner(seconds) if seconds else case.favourite
    tiles = [best, *(best._replace(samples=samples) for samples in case.function.samples)]
    seconds |= _measured(case, 1, tiles, cut)
    return winner({method: seconds[method] for method in tiles if method in seconds}), seconds


def _measured(
    case: Case, threads: int, methods: list[Method], arguments: Arguments
) -> dict[Method, float]:
    """Return the seconds of the methods, the favourite first; those that took too long may lack.

    They come from the file of this machine where they were measured before.
    """
    runs = {
        str(method): partial(case.function.compute, method, threads, arguments)
        for method in methods
    }
    return measurements.remembered(case.key(threads), methods, lambda: race(runs.items()))


def winner(seconds: Mapping[M, float]) -> M:
    """Return the fastest method, or the first unless that one is clearly faster."""
    first, best = next(iter(seconds)), min(seconds, key=seconds.__getitem__)
    return best if seconds[best] < MARGIN * seconds[first] else first


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _count(threads: int) -> str:
    return f"{threads} thread{'s' * (threads != 1)}"

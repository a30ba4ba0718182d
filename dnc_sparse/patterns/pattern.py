"""The fixed set of edges of one junction.

| name    | meaning                                                   | shape                     |
|---------|-----------------------------------------------------------|---------------------------|
| n_in    | left neurons                                              |                           |
| n_out   | right neurons                                             |                           |
| bo, bi  | an edge block: bo right neurons x bi left neurons         |                           |
| rows    | right block rows, n_out / bo                              |                           |
| columns | left block columns, n_in / bi                             |                           |
| slots   | block slots per row, the largest count of any row         |                           |
| sources | left block column of each slot, ascending, -1 past count  | [rows, slots]             |
| targets | flat slot (row * slots + slot) of a column's edges, or -1 | [columns, largest degree] |
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import operator
import zlib
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from functools import cached_property, lru_cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IndexArray = NDArray[np.int32]
Spec = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

# tables are int32
MAX_INDEX = 2**31 - 1
# patterns kept for programs that know them by key only; more junctions than that in one exported
# program are rebuilt at each call
KEPT_REBUILDS = 256
WHOLE_ARGUMENTS = ("n_in", "n_out", "fan_in", "fan_out", "banks", "kind", "seed")

_FAMILIES: dict[str, Callable[..., Pattern]] = {}
_ALIVE: WeakValueDictionary[str, Pattern] = WeakValueDictionary()


@dataclass(frozen=True, eq=False, repr=False)
class Pattern:
    """An immutable set of edge blocks between `n_in` left and `n_out` right neurons.

    Slots are kept in ascending order of their left block, so that the weights of one output over
    any range of inputs are contiguous (docs/decisions/0001-slot-order.md). `spec` is a JSON-able
    record from which `Pattern.from_spec` rebuilds the same pattern: how a family drew it, or else
    the edges themselves. (`_record` is for `recorded` alone, which vouches for it.)

    Raises ValueError for sizes below one, a block that does not divide them, indices out of range,
    the same edge given twice, or more slots than an int32 can number; TypeError for sizes that are
    not whole.
    """

    n_in: int
    n_out: int
    sources: IndexArray
    block: tuple[int, int] = (1, 1)
    spec: Spec = field(init=False)
    _plans: dict[Any, Any] = field(default_factory=dict, init=False)
    _record: InitVar[Spec | None] = field(default=None, kw_only=True)

    def __post_init__(self, _record: Spec | None) -> None:
        block = as_block(self.block)
        check_sizes(self.n_in, self.n_out, block)
        sources = _checked_sources(self.sources, self.n_in, self.n_out, block)
        object.__setattr__(self, "n_in", int(self.n_in))
        object.__setattr__(self, "n_out", int(self.n_out))
        object.__setattr__(self, "block", block)
        object.__setattr__(self, "sources", sources)
        object.__setattr__(self, "spec", _record or _edge_spec(self))
        _ALIVE.setdefault(self.key, self)

    @property
    def rows(self) -> int:
        """Right block rows."""
        return self.n_out // self.block[0]

    @property
    def columns(self) -> int:
        """Left block columns."""
        return self.n_in // self.block[1]

    @property
    def slots(self) -> int:
        """Block slots per row, padding included."""
        return int(self.sources.shape[1])

    @cached_property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight tensor: (rows, slots, bo, bi)."""
        return (self.rows, self.slots, *self.block)

    @cached_property
    def counts(self) -> IndexArray:
        """Edge blocks of each row: [rows]."""
        return _frozen((self.sources >= 0).sum(axis=1))

    @cached_property
    def _column_counts(self) -> IndexArray:
        """Edge blocks of each left column: [columns]."""
        return _frozen(np.bincount(self.sources[self.sources >= 0], minlength=self.columns))

    @cached_property
    def targets(self) -> IndexArray:
        """Transposed table: flat slot of each edge block of a left column, by row, -1 padded."""
        flat = np.flatnonzero(self.sources.reshape(-1) >= 0)
        column = self.sources.reshape(-1)[flat]
        order = np.argsort(column, kind="stable")
        degree = self._column_counts
        table = np.full((self.columns, int(degree.max(initial=0))), -1, dtype=np.int32)
        start = np.cumsum(degree) - degree
        sorted_column = column[order]
        table[sorted_column, np.arange(len(flat)) - start[sorted_column]] = flat[order]
        return _frozen(table)

    @cached_property
    def fan_ins(self) -> IndexArray:
        """Edges into each right neuron: [n_out]."""
        return _frozen(np.repeat(self.counts * self.block[1], self.block[0]))

    @cached_property
    def fan_outs(self) -> IndexArray:
        """Edges out of each left neuron: [n_in]."""
        return _frozen(np.repeat(self._column_counts * self.block[0], self.block[1]))

    @property
    def fan_in(self) -> int:
        """Largest number of edges into a right neuron (all equal in a regular pattern)."""
        return self.slots * self.block[1]

    @property
    def fan_out(self) -> int:
        """Largest number of edges out of a left neuron."""
        return int(self._column_counts.max()) * self.block[0]

    @cached_property
    def is_full(self) -> bool:
        """Whether no slot is empty, that is every right neuron has the same fan_in."""
        return bool((self.counts == self.slots).all())

    @cached_property
    def is_regular(self) -> bool:
        """Whether every right neuron has the same fan_in and every left neuron the same fan_out."""
        columns = self._column_counts
        return self.is_full and bool((columns == columns.max()).all())

    @cached_property
    def n_edges(self) -> int:
        """Connections, one weight each."""
        return int(self.counts.sum()) * self.block[0] * self.block[1]

    @property
    def density(self) -> float:
        """Edges / (n_in * n_out)."""
        return self.n_edges / (self.n_in * self.n_out)

    def mask(self) -> NDArray[np.bool_]:
        """Dense adjacency, right by left: [n_out, n_in]."""
        blocks = np.zeros((self.rows, self.columns), dtype=bool)
        row, slot = np.nonzero(self.sources >= 0)
        blocks[row, self.sources[row, slot]] = True
        return np.kron(blocks, np.ones(self.block, dtype=bool))

    @cached_property
    def key(self) -> str:
        """Canonical JSON of `spec`: equal patterns of one family have equal keys."""
        return json.dumps(self.spec, sort_keys=True, separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits over sizes and edges, to tell whether a rebuild is the same."""
        head = f"{self.n_in},{self.n_out},{self.block},{self.slots};".encode()
        edges = np.ascontiguousarray(self.sources, dtype="<i4").tobytes()
        return hashlib.sha256(head + edges).hexdigest()[:16]

    def plan(self, key: Any, build: Callable[[], T]) -> T:
        """Return what a backend derived from this pattern under `key`, building it once."""
        try:
            plan: T = self._plans[key]
        except KeyError:
            plan = self._plans[key] = build()
        return plan

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the adjacency with its fan-out and fan-in margins; needs matplotlib."""
        from dnc_sparse.patterns.plot import plot

        return plot(self, ax)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Pattern:
        """Rebuild a pattern from its `spec`.

        Raises ValueError for an unknown family or arguments the family does not take.
        """
        arguments = dict(spec)
        name = arguments.pop("family", None)
        if name not in _FAMILIES:
            known = ", ".join(sorted(_FAMILIES))
            raise ValueError(f"unknown pattern family {name!r}; known families: {known}")
        try:
            return _FAMILIES[name](**arguments)
        except TypeError as error:
            raise ValueError(f"spec of a {name!r} pattern does not fit it: {error}") from error

    @classmethod
    def from_key(cls, key: str) -> Pattern:
        """Return the live pattern with this `key`, or rebuild it and keep it for the next call."""
        return _ALIVE.get(key) or _rebuilt(key)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pattern):
            return NotImplemented
        same_sizes = (self.n_in, self.n_out, self.block) == (other.n_in, other.n_out, other.block)
        return same_sizes and np.array_equal(self.sources, other.sources)

    def __hash__(self) -> int:
        return hash((self.n_in, self.n_out, self.block, self.digest))

    def __reduce__(self) -> tuple[Callable[..., Pattern], tuple[Spec]]:
        return Pattern.from_spec, (self.spec,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Pattern:
        return self

    def __repr__(self) -> str:
        family = self.spec["family"]
        block = "" if self.block == (1, 1) else f", block {self.block[0]}x{self.block[1]}"
        return (
            f"Pattern({family}, {self.n_in} -> {self.n_out}, {self.n_edges} edges, "
            f"density {self.density:.4g}, fan_in {self.fan_in}, fan_out {self.fan_out}{block})"
        )


@lru_cache(maxsize=KEPT_REBUILDS)
def _rebuilt(key: str) -> Pattern:
    return Pattern.from_spec(json.loads(key))


def family(build: Callable[P, Pattern]) -> Callable[P, Pattern]:
    """Make a function known to `Pattern.from_spec` under its own name.

    Its sizes, degrees, banks and seed may be integers of any type (numpy's too): it gets int.
    """
    signature = inspect.signature(build)

    @wraps(build)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Pattern:
        given = signature.bind(*args, **kwargs)
        for name in WHOLE_ARGUMENTS:
            if name not in given.arguments:
                continue
            value = given.arguments[name]
            if value is not None or signature.parameters[name].default is not None:
                given.arguments[name] = whole(name, value)
        return build(*given.args, **given.kwargs)

    _FAMILIES[build.__name__] = drawn
    return drawn


def recorded(
    name: str, n_in: int, n_out: int, block: tuple[int, int], sources: IndexArray, **options: Any
) -> Pattern:
    """Make the pattern that the family of this name draws from these sizes and options."""
    spec = {"family": name, "n_in": n_in, "n_out": n_out, "block": list(block), **options}
    return Pattern(n_in, n_out, sources, block, _record=spec)


def whole(name: str, value: Any) -> int:
    """Return an integer of any type as int; TypeError, with its name, for anything else."""
    try:
        return int(operator.index(value))
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None


def as_block(block: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """Return (bo, bi); one number means a square block."""
    sides = block if isinstance(block, (tuple, list)) else (block, block)
    if len(sides) != 2:
        raise ValueError(f"block {block} has {len(sides)} numbers; give one or (bo, bi)")
    return (whole("block", sides[0]), whole("block", sides[1]))


def check_sizes(n_in: int, n_out: int, block: tuple[int, int]) -> None:
    """Raise ValueError unless the sizes are positive and divisible, TypeError unless whole."""
    if min(whole("n_in", n_in), whole("n_out", n_out)) < 1:
        raise ValueError(f"a junction needs at least 1 neuron a side, got {n_in} -> {n_out}")
    bo, bi = block
    if bo < 1 or bi < 1:
        raise ValueError(f"block {bo}x{bi} must have sides of at least 1")
    if n_out % bo or n_in % bi:
        raise ValueError(
            f"block {bo}x{bi} does not divide {n_out} outputs x {n_in} inputs; "
            f"choose bo among the divisors of {n_out} and bi among those of {n_in}"
        )


@family
def edges(n_in: int, n_out: int, data: str, block: tuple[int, int] | list[int] = (1, 1)) -> Pattern:
    """Rebuild a pattern whose block adjacency is recorded in `data` (bits, zlib, base64)."""
    size = as_block(block)
    check_sizes(n_in, n_out, size)
    shape = (n_out // size[0], n_in // size[1])
    try:
        bits = np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype=np.uint8)
        adjacency = np.unpackbits(bits)[: shape[0] * shape[1]].reshape(shape).astype(bool)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"recorded edges of a {n_in} -> {n_out} pattern are damaged") from error
    return recorded("edges", n_in, n_out, size, sources_of(adjacency), data=data)


def sources_of(adjacency: NDArray[np.bool_]) -> IndexArray:
    """List the columns set in each row, ascending, -1 padded: [rows, largest count]."""
    counts = adjacency.sum(axis=1)
    row, column = np.nonzero(adjacency)
    sources = np.full((adjacency.shape[0], int(counts.max(initial=0))), -1, dtype=np.int32)
    start = np.cumsum(counts) - counts
    sources[row, np.arange(len(row)) - start[row]] = column
    return sources


def _edge_spec(pattern: Pattern) -> Spec:
    bo, bi = pattern.block
    bits = np.packbits(pattern.mask()[::bo, ::bi])
    data = base64.b64encode(zlib.compress(bits.tobytes(), 9)).decode()
    sizes = {"n_in": pattern.n_in, "n_out": pattern.n_out, "block": [bo, bi]}
    return {"family": "edges", **sizes, "data": data}


def _checked_sources(
    sources: ArrayLike, n_in: int, n_out: int, block: tuple[int, int]
) -> IndexArray:
    table = np.array(sources)
    rows, columns = n_out // block[0], n_in // block[1]
    if table.ndim != 2 or table.shape[0] != rows:
        raise ValueError(f"sources must be [{rows} rows, slots], got shape {list(table.shape)}")
    if table.size and not np.issubdtype(table.dtype, np.integer):
        raise ValueError(f"sources must be integers, got {table.dtype}")
    if table.size and (table.min() < -1 or table.max() >= columns):
        raise ValueError(
            f"sources must lie in 0..{columns - 1} (or -1 for an empty slot), "
            f"got {table.min()}..{table.max()}"
        )
    if max(table.size, columns) > MAX_INDEX:
        raise ValueError(
            f"{rows} rows of {table.shape[1]} slots over {columns} left blocks cannot be numbered "
            f"by int32 (at most {MAX_INDEX}); choose a lower density or a larger block"
        )
    table = table.astype(np.int32, copy=False)
    # empty slots sort last
    table = np.sort(np.where(table < 0, columns, table), axis=1)
    twice = (table[:, 1:] == table[:, :-1]) & (table[:, 1:] < columns)
    if twice.any():
        row, slot = np.argwhere(twice)[0]
        raise ValueError(
            f"edge listed twice: right block {row} takes left block {table[row, slot]} "
            f"more than once; each pair may be connected once"
        )
    used = int((table < columns).sum(axis=1).max(initial=0))
    return _frozen(np.where(table == columns, -1, table)[:, :used])


def _frozen(array: NDArray[Any]) -> IndexArray:
    result: IndexArray = np.ascontiguousarray(array, dtype=np.int32)
    result.setflags(write=False)
    return result

"""The fixed set of edges of one junction.

| name    | meaning                                                    | shape                     |
|---------|------------------------------------------------------------|---------------------------|
| n_in    | left neurons                                               |                           |
| n_out   | right neurons                                              |                           |
| bo, bi  | an edge block: bo right neurons x bi left neurons          |                           |
| rows    | right block rows, n_out / bo                               |                           |
| columns | left block columns, n_in / bi                              |                           |
| slots   | the largest number of edge blocks of any row               |                           |
| indptr  | where the edge blocks of each row begin and end            | [rows + 1]                |
| indices | left block column of each edge block, ascending in a row   | [edge blocks]             |
| sources | left block column of each slot that has a weight, or -1    | [rows, slots] or, where   |
|         |                                                            | compact, [edge blocks, 1] |
| targets | flat slot of a column's edges in `sources`, -1 past degree | [columns, largest degree] |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from dnc_sparse.patterns.edges import Edges, IndexArray, edges_of_table, sources_of
from dnc_sparse.patterns.record import decode_edges, encode_edges
from dnc_sparse.patterns.registry import alive, family, rebuild, register
from dnc_sparse.patterns.sizes import MAX_INDEX, as_block, check_sizes, whole
from dnc_sparse.patterns.tables import Tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Edges",
    "IndexArray",
    "Pattern",
    "Spec",
    "as_block",
    "check_sizes",
    "family",
    "recorded",
    "sources_of",
    "whole",
]

Spec = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Pattern(Tables):
    """An immutable set of edge blocks between `n_in` left and `n_out` right neurons.

    Slots are kept in ascending order of their left block, so that the weights of one output over
    any range of inputs are contiguous (docs/decisions/0001-slot-order.md). Rows are padded to the
    longest, or compact where that would waste memory: `weight_shape` tells
    (docs/decisions/0011-uneven-rows.md). `spec` is a JSON-able record from which
    `Pattern.from_spec` rebuilds the same pattern: how a family drew it, or else the edges
    themselves. (`_record` is for `recorded` alone, which vouches for it; `_pad` for `padded`.)

    Raises ValueError for sizes below one, a block that does not divide them, indices out of range,
    the same edge given twice, or more slots than an int32 can number; TypeError for sizes that are
    not whole.
    """

    n_in: int
    n_out: int
    sources: IndexArray
    block: tuple[int, int] = (1, 1)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        sources: ArrayLike | Edges,
        block: int | tuple[int, int] | list[int] = (1, 1),
        *,
        _record: Spec | None = None,
        _pad: bool = False,
    ) -> None:
        size = as_block(block)
        check_sizes(n_in, n_out, size)
        rows, columns = int(n_out) // size[0], int(n_in) // size[1]
        if not isinstance(sources, Edges):
            sources = edges_of_table(sources, rows, columns, MAX_INDEX)
        elif max(len(sources.indices), columns) > MAX_INDEX:
            raise ValueError(
                f"{len(sources.indices)} edge blocks over {columns} left blocks cannot be numbered "
                f"by int32 (at most {MAX_INDEX}); choose a lower density or a larger block"
            )
        self.__dict__.update(
            n_in=int(n_in),
            n_out=int(n_out),
            block=size,
            indptr=sources.indptr,
            indices=sources.indices,
            _record=_record,
            _pad=_pad,
            _plans={},
        )

    @cached_property
    def spec(self) -> Spec:
        """A JSON-able record that rebuilds the pattern."""
        if self._record is not None:
            return self._record
        sizes = {"n_in": self.n_in, "n_out": self.n_out, "block": list(self.block)}
        return {"family": "edges", **sizes, "data": encode_edges(self.edges, self.columns)}

    @property
    def family(self) -> str:
        """The name of the family that drew the pattern, "edges" where none did."""
        return str(self.options.get("family", "edges"))

    @property
    def options(self) -> Spec:
        """What the family drew the pattern from, as in `spec`; nothing where none did."""
        return {} if self._record is None else self._record

    @property
    def key(self) -> str:
        """Canonical JSON of `spec`: equal patterns of one family have equal keys."""
        return _key(self)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits over sizes and edges, to tell whether a rebuild is the same."""
        if not self.compact:
            return self.padded_digest
        digest = hashlib.sha256(f"{self.n_in},{self.n_out},{self.block},compact;".encode())
        for numbers in (self.counts, self.indices):
            digest.update(np.ascontiguousarray(numbers, dtype="<i4").tobytes())
        return digest.hexdigest()[:16]

    def has_digest(self, digest: str) -> bool:
        """Whether a digest is that of this pattern, or was before uneven rows were compact."""
        # nobody can have stored more slots than int32 numbers
        old = self.compact and self.rows * self.slots <= MAX_INDEX
        return digest == self.digest or (old and digest == self.padded_digest)

    @cached_property
    def padded(self) -> Pattern:
        """The same edges with every row padded to the longest, for backends that count on it."""
        if not self.compact:
            return self
        edges = self.edges
        return Pattern(self.n_in, self.n_out, edges, self.block, _record=self._record, _pad=True)

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
        return rebuild(spec)

    @classmethod
    def from_key(cls, key: str) -> Pattern:
        """Return the live pattern with this `key`, or rebuild it and keep it for the next call."""
        return alive(key)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pattern):
            return NotImplemented
        same_sizes = (self.n_in, self.n_out, self.block) == (other.n_in, other.n_out, other.block)
        return (
            same_sizes
            and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.indices, other.indices)
        )

    def __hash__(self) -> int:
        return hash((self.n_in, self.n_out, self.block, self._edge_hash))

    def __reduce__(self) -> tuple[Callable[..., Pattern], tuple[Spec]]:
        return Pattern.from_spec, (self.spec,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Pattern:
        return self

    def __repr__(self) -> str:
        block = "" if self.block == (1, 1) else f", block {self.block[0]}x{self.block[1]}"
        return (
            f"Pattern({self.family}, {self.n_in} -> {self.n_out}, {self.n_edges} edges, "
            f"density {self.density:.4g}, fan_in {self.fan_in}, fan_out {self.fan_out}{block})"
        )


def _key(pattern: Pattern) -> str:
    key: str | None = pattern.__dict__.get("_key")
    if key is None:
        key = json.dumps(pattern.spec, sort_keys=True, separators=(",", ":"))
        pattern.__dict__["_key"] = key
        # a program knows the pattern whose weights it has
        if not pattern._pad:
            register(key, pattern)
    return key


# torch.compile takes the result as it is, instead of tracing how it is made
_key._dynamo_marked_constant = True  # type: ignore[attr-defined]


def recorded(
    name: str,
    n_in: int,
    n_out: int,
    block: tuple[int, int],
    sources: ArrayLike | Edges,
    **options: Any,
) -> Pattern:
    """Make the pattern that the family of this name draws from these sizes and options."""
    spec = {"family": name, "n_in": n_in, "n_out": n_out, "block": list(block), **options}
    return Pattern(n_in, n_out, sources, block, _record=spec)


@family
def edges(n_in: int, n_out: int, data: str, block: tuple[int, int] | list[int] = (1, 1)) -> Pattern:
    """Rebuild a pattern whose edges are recorded in `data`: see `dnc_sparse.patterns.record`."""
    size = as_block(block)
    check_sizes(n_in, n_out, size)
    try:
        listed = decode_edges(data, n_out // size[0], n_in // size[1])
    except ValueError as error:
        raise ValueError(f"recorded edges of a {n_in} -> {n_out} pattern are damaged") from error
    return Pattern(n_in, n_out, listed, size)

"""Counts of access patterns against enumeration by the same rule."""

from collections.abc import Iterable, Iterator
from itertools import permutations, product

import numpy as np
import pytest

from dnc_sparse.patterns import count_access_patterns
from dnc_sparse.patterns.interleave import read_order

Graph = frozenset[tuple[int, int]]


def sweeps(depth: int, banks: int, kind: int, dither: bool) -> Iterator[np.ndarray]:
    """Every draw of one sweep, as the left neurons in reading order."""
    cycle = np.arange(depth)
    walks: Iterable[np.ndarray]
    if kind == 1:
        walks = [np.array(walk) for walk in permutations(range(depth))]
    else:
        walks = [(seed + cycle) % depth for seed in range(depth)]
    orders = list(permutations(range(banks))) if dither else [tuple(range(banks))]
    for order, addresses in product(orders, product(walks, repeat=banks)):
        table = np.stack(addresses, axis=1)[None]
        yield read_order(table, np.array([order]), "interleaved").reshape(-1)


def graphs(n_in: int, fan_out: int, n_out: int, banks: int, kind: int, dither: bool) -> int:
    """Count distinct graphs over all draws; an edge drawn twice counts once, as published."""
    fan_in = n_in * fan_out // n_out
    drawn = list(sweeps(n_in // banks, banks, kind, dither))
    if n_in % fan_in:  # rows straddle sweeps
        rows = np.arange(n_in * fan_out) // fan_in
        chosen = ([one] * fan_out for one in drawn) if kind == 3 else product(drawn, repeat=fan_out)
        return len({_graph(rows, np.concatenate(list(parts))) for parts in chosen})
    rows = np.arange(n_in) // fan_in
    distinct = len({_graph(rows, left) for left in drawn})
    return distinct if kind == 3 else distinct**fan_out


def _graph(rows: np.ndarray, left: np.ndarray) -> Graph:
    return frozenset(zip(rows.tolist(), left.tolist(), strict=True))


@pytest.mark.parametrize(
    ("shape", "dither", "counts"),
    [
        ((9, 2, 6, 3), False, (46656, 729, 27)),
        ((12, 2, 12, 4), False, (6**8, 6561, 81)),
        ((12, 2, 12, 4), True, (60466176, 236196, 486)),
    ],
)
def test_counts_are_published_ones_and_enumerated(
    shape: tuple[int, int, int, int], dither: bool, counts: tuple[int, int, int]
) -> None:
    for kind, count in zip((1, 2, 3), counts, strict=True):
        assert count_access_patterns(*shape, kind, dither) == count
        assert graphs(*shape, kind, dither) == count


@pytest.mark.parametrize(
    ("shape", "kind", "formula", "distinct"),
    [((8, 1, 2, 2), 1, 576, 36), ((8, 1, 2, 2), 2, 16, 16), ((6, 2, 4, 2), 1, 1296, 81)],
)
def test_rows_that_read_a_bank_twice_have_fewer_graphs(
    shape: tuple[int, int, int, int], kind: int, formula: int, distinct: int
) -> None:
    assert count_access_patterns(*shape, kind) == formula
    assert graphs(*shape, kind, False) == distinct


@pytest.mark.parametrize(
    ("shape", "kind", "distinct"),
    [((6, 2, 4, 2), 1, 324), ((6, 2, 4, 2), 2, 324), ((6, 2, 4, 2), 3, 18), ((4, 3, 4, 2), 2, 64)],
)
def test_dithered_counts_without_closed_form(
    shape: tuple[int, int, int, int], kind: int, distinct: int
) -> None:
    assert graphs(*shape, kind, True) == distinct
    message = (
        "^no closed form for dithered patterns with fan_in 3 and 2 banks; "
        "one must divide the other$"
    )
    with pytest.raises(ValueError, match=message):
        count_access_patterns(*shape, kind, True)


def test_dither_does_not_count_where_rows_read_every_bank() -> None:
    assert count_access_patterns(8, 1, 2, 2, 2, dither=True) == 16


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match=r"^9 inputs cannot be spread over 2 banks; choose a div"):
        count_access_patterns(9, 2, 6, 2, 1)
    with pytest.raises(ValueError, match=r"^9 inputs with fan_out 1 make 9 edges, which 6 outputs"):
        count_access_patterns(9, 1, 6, 3, 1)
    with pytest.raises(ValueError, match=r"^kind must be 1, 2 or 3, got 0$"):
        count_access_patterns(9, 2, 6, 3, 0)
    with pytest.raises(TypeError, match=r"^banks must be a whole number, got 1\.5$"):
        count_access_patterns(9, 2, 6, 1.5, 1)


def test_numpy_sizes_do_not_overflow() -> None:
    sizes = (1024, 128, 1024, 32)
    assert count_access_patterns(*map(np.int64, sizes), 2) == count_access_patterns(*sizes, 2)

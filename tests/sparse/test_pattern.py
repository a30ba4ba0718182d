"""The Pattern object: validation, derived tables, records, copies."""

import base64
import copy
import dataclasses
import gc
import pickle
import weakref
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_sparse.patterns import Pattern, clash_free, cyclic, from_edges, from_mask, random, regular
from dnc_sparse.patterns import pattern as module

FEW = settings(max_examples=100, deadline=None)


def small(block: tuple[int, int] = (1, 1)) -> Pattern:
    """Three rows of two, one and no edges."""
    return Pattern(4 * block[1], 3 * block[0], np.array([[3, 0], [-1, 2], [-1, -1]]), block)


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    n_out, n_in = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    bits = draw(st.lists(st.booleans(), min_size=n_out * n_in, max_size=n_out * n_in))
    return np.array(bits).reshape(n_out, n_in)


def test_rows_are_sorted_and_padded_last() -> None:
    pattern = small()
    assert pattern.sources.tolist() == [[0, 3], [2, -1], [-1, -1]]
    assert pattern.counts.tolist() == [2, 1, 0]
    assert pattern.fan_ins.tolist() == [2, 1, 0]
    assert pattern.fan_outs.tolist() == [1, 0, 1, 1]
    assert (pattern.fan_in, pattern.fan_out) == (2, 1)
    assert (pattern.n_edges, pattern.density) == (3, 0.25)
    assert not pattern.is_regular
    assert pattern.mask().tolist() == [
        [True, False, False, True],
        [False, False, True, False],
        [False, False, False, False],
    ]


def test_surplus_padding_is_dropped() -> None:
    assert Pattern(3, 1, np.array([[-1, 1, -1]])).slots == 1


def test_blocks_scale_degrees_and_mask() -> None:
    pattern = small((2, 3))
    assert pattern.weight_shape == (3, 2, 2, 3)
    assert (pattern.fan_in, pattern.fan_out, pattern.n_edges) == (6, 2, 18)
    assert pattern.fan_ins.tolist() == [6, 6, 3, 3, 0, 0]
    assert np.array_equal(pattern.mask(), np.kron(small().mask(), np.ones((2, 3), dtype=bool)))


def test_tables_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        small().sources[0, 0] = 1


@given(masks())
@FEW
def test_targets_invert_sources(mask: np.ndarray) -> None:
    pattern = from_mask(mask)
    assert np.array_equal(pattern.mask(), mask)
    flat = pattern.sources.reshape(-1)
    listed = pattern.targets[pattern.targets >= 0]
    assert sorted(listed) == np.flatnonzero(flat >= 0).tolist()
    for column, slots in enumerate(pattern.targets):
        used = slots[slots >= 0]
        assert (flat[used] == column).all()
        assert (np.diff(used) > 0).all()
    assert pattern.fan_outs.tolist() == mask.sum(axis=0).tolist()
    assert pattern.fan_ins.tolist() == mask.sum(axis=1).tolist()


@given(masks())
@FEW
def test_recorded_edges_round_trip(mask: np.ndarray) -> None:
    pattern = from_mask(mask)
    assert Pattern.from_spec(pattern.spec) == pattern
    assert Pattern.from_spec(pattern.spec).digest == pattern.digest


@pytest.mark.parametrize("density", [0.0, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1), (3, 5)])
def test_empty_and_full(size: tuple[int, int], density: float) -> None:
    pattern = random(*size, density=density)
    assert pattern.density == density
    assert pattern.slots == (size[0] if density else 0)
    assert pattern.targets.shape == (size[0], size[1] if density else 0)
    assert pattern.is_regular
    assert Pattern.from_spec(pattern.spec) == pattern


PATTERNS = [
    small(),
    small((2, 2)),
    clash_free(12, 8, density=0.5, kind=2, dither=True, seed=3),
    cyclic(64, 32, density=0.25),
    regular(10, 7, fan_in=3, seed=1),
    random(10, 7, density=0.2, block=1, seed=1),
]


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_copies_and_records(pattern: Pattern) -> None:
    assert pickle.loads(pickle.dumps(pattern)) == pattern
    assert copy.deepcopy(pattern) is pattern
    rebuilt = Pattern.from_spec(pattern.spec)
    assert rebuilt == pattern
    assert rebuilt.key == pattern.key
    assert hash(rebuilt) == hash(pattern)
    assert Pattern.from_key(pattern.key) == pattern


def test_key_finds_the_live_pattern_or_rebuilds_it() -> None:
    pattern = regular(6, 4, fan_in=3, seed=987)
    key, digest = pattern.key, pattern.digest
    assert Pattern.from_key(key) is pattern
    del pattern
    gc.collect()
    # an exported program has nothing but the key: its pattern, with its plans, must stay
    rebuilt = weakref.ref(Pattern.from_key(key))
    gc.collect()
    assert Pattern.from_key(key) is rebuilt()
    assert Pattern.from_key(key).digest == digest


def test_only_families_record_how_they_drew() -> None:
    drawn = regular(6, 4, fan_in=3, seed=986)
    with pytest.raises(TypeError, match=r"^Pattern.__init__\(\) got an unexpected .*'spec'"):
        Pattern(6, 4, small().sources, spec=drawn.spec)
    own = Pattern(6, 4, drawn.sources)
    assert own.spec["family"] == "edges"
    assert own == drawn
    assert Pattern.from_key(drawn.key) is drawn
    changed = dataclasses.replace(drawn, sources=np.zeros((4, 1), dtype=int))
    assert Pattern.from_spec(changed.spec) == changed
    assert Pattern.from_key(drawn.key) is drawn


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_any_integer_table_is_taken(dtype: type[np.integer]) -> None:
    pattern = Pattern(np.int64(300), np.int32(1), np.array([[100, 3]], dtype), (np.int8(1), 1))
    assert pattern.sources.tolist() == [[3, 100]]
    assert pattern.sources.dtype == np.int32
    assert Pattern.from_key(pattern.key) is pattern


def test_slots_and_left_blocks_fit_int32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_INDEX", 6)
    assert Pattern(6, 3, [[0, 1]] * 3).n_edges == 6
    message = (
        r"cannot be numbered by int32 \(at most 6\); choose a lower density or a larger block$"
    )
    with pytest.raises(ValueError, match=f"^3 rows of 3 slots over 6 left blocks {message}"):
        Pattern(6, 3, [[0, 1, 2]] * 3)
    with pytest.raises(ValueError, match=f"^1 rows of 1 slots over 7 left blocks {message}"):
        Pattern(7, 1, [[0]])
    with pytest.raises(ValueError, match=f"^7 edge blocks over 1 left blocks {message}"):
        from_edges(range(7), [0] * 7)


def test_equality_and_digest_follow_the_edges() -> None:
    pattern, other = small(), Pattern(4, 3, np.array([[0, 3], [1, -1], [-1, -1]]))
    assert pattern == small()
    assert pattern != other
    assert pattern.digest != other.digest
    assert pattern.digest != small((2, 2)).digest
    assert pattern != "pattern"


def test_plan_is_built_once() -> None:
    pattern, calls = small(), []
    for _ in range(2):
        assert pattern.plan("a", lambda: calls.append(1) or 7) == 7
    assert calls == [1]


def test_repr_tells_the_facts() -> None:
    assert repr(regular(8, 4, fan_in=2, block=2)) == (
        "Pattern(regular, 8 -> 4, 8 edges, density 0.25, fan_in 2, fan_out 2, block 2x2)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, [[0]]), "^a junction needs at least 1 neuron a side, got 0 -> 3$"),
        ((4, 3, [[0]]), r"^sources must be \[3 rows, slots\], got shape \[1, 1\]$"),
        ((4, 1, [[0.5]]), "^sources must be integers, got float64$"),
        ((4, 1, [[4]]), r"^sources must lie in 0..3 \(or -1 for an empty slot\), got 4..4$"),
        ((4, 1, [[-2]]), r"^sources must lie in 0..3 \(or -1 for an empty slot\), got -2..-2$"),
        (
            (4, 1, [[2, 1, 2]]),
            "^edge listed twice: right block 0 takes left block 2 more than once; "
            "each pair may be connected once$",
        ),
        (
            (4, 3, [[0]], (2, 2)),
            "^block 2x2 does not divide 3 outputs x 4 inputs; choose bo among the divisors of 3 "
            "and bi among those of 4$",
        ),
        ((4, 4, [[0]], (0, 2)), "^block 0x2 must have sides of at least 1$"),
        ((4, 4, [[0]], (1, 2, 3)), r"^block \(1, 2, 3\) has 3 numbers; give one or \(bo, bi\)$"),
    ],
)
def test_bad_patterns(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pattern(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 1, [[0]]), "^n_in must be a whole number, got 1.5$"),
        ((1, "2", [[0]]), "^n_out must be a whole number, got '2'$"),
        ((4, 4, [[0]], 2.0), "^block must be a whole number, got 2.0$"),
        ((4, 4, [[0]], (1, 1.5)), "^block must be a whole number, got 1.5$"),
    ],
)
def test_sizes_that_are_not_whole(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Pattern(*arguments)


def test_bad_records() -> None:
    with pytest.raises(
        ValueError, match=r"^unknown pattern family 'other'; known families: .*edges"
    ):
        Pattern.from_spec({"family": "other"})
    with pytest.raises(ValueError, match=r"^spec of a 'regular' pattern does not fit it: .*banks"):
        Pattern.from_spec({"family": "regular", "n_in": 4, "n_out": 4, "fan_in": 2, "banks": 2})
    with pytest.raises(ValueError, match=r"^spec of a 'random' .*: seed must be a whole number, "):
        Pattern.from_spec({"family": "random", "n_in": 4, "n_out": 4, "density": 1, "seed": 0.5})
    too_short = base64.b64encode(zlib.compress(b"1")).decode()
    for data in ("AAAA", too_short):
        damaged = small().spec | {"data": data}
        with pytest.raises(ValueError, match=r"^recorded edges of a 4 -> 3 pattern are damaged$"):
            Pattern.from_spec(damaged)

"""Patterns from lists of edges and sparse matrices, their records, and what is refused."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_sparse import ops
from dnc_sparse.nn import SparseLinear
from dnc_sparse.patterns import (
    Pattern,
    allocate,
    clash_free,
    cyclic,
    from_edges,
    from_mask,
    from_scipy,
    nearest,
    neighbours,
    random,
    regular,
)
from dnc_sparse.patterns import families as families_module
from dnc_sparse.patterns.edge_lists import as_pattern

FEW = settings(max_examples=100, deadline=None)
# torch says so once per process, of whichever layout comes first
pytestmark = pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta:UserWarning")


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    n_out, n_in = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    bits = draw(st.lists(st.booleans(), min_size=n_out * n_in, max_size=n_out * n_in))
    return np.array(bits).reshape(n_out, n_in)


@given(masks(), st.randoms())
@FEW
def test_edges_in_any_order_are_the_mask(mask: np.ndarray, order: Any) -> None:
    n_out, n_in = mask.shape
    pairs = list(zip(*(part.tolist() for part in np.nonzero(mask)), strict=True))
    order.shuffle(pairs)
    rows, columns = [row for row, _ in pairs], [column for _, column in pairs]
    pattern = from_edges(rows, columns, n_in=n_in, n_out=n_out)
    assert pattern == from_mask(mask)
    assert np.array_equal(pattern.mask(), mask)
    assert pattern.digest == from_mask(mask).digest


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_lists_arrays_and_tensors(kind: Any, dtype: Any) -> None:
    rows, columns = kind(dtype([1, 0, 1]).tolist()), kind(dtype([2, 0, 0]).tolist())
    pattern = from_edges(rows, columns)
    assert (pattern.n_in, pattern.n_out) == (3, 2)
    assert pattern.sources.tolist() == [[0, -1], [0, 2]]


def test_sizes_are_inferred_or_given() -> None:
    assert from_edges([4], [6]).mask().shape == (5, 7)
    assert from_edges([4], [6], n_in=9).mask().shape == (5, 9)
    assert from_edges([4], [6], n_in=np.int8(9), n_out=np.int64(8)).mask().shape == (8, 9)
    assert from_edges([], [], n_in=3, n_out=2).n_edges == 0


def test_blocks_are_listed_neuron_by_neuron() -> None:
    mask = np.kron(np.array([[1, 0, 1], [0, 1, 0]]), np.ones((2, 3)))
    rows, columns = np.nonzero(mask)
    turn = np.random.default_rng(0).permutation(len(rows))
    pattern = from_edges(rows[turn], columns[turn], block=(2, 3))
    assert pattern == from_mask(mask, (2, 3))
    assert pattern.weight_shape == (2, 2, 2, 3)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"])
@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csr_array], ids=str)
def test_scipy_formats(form: str, kind: Any) -> None:
    mask = np.random.default_rng(0).random((6, 9)) < 0.4
    matrix = kind(mask.astype(float)).asformat(form)
    if form in ("bsr", "dia"):
        # they store zeros to fill their blocks and diagonals
        assert from_scipy(matrix) == from_mask(matrix.tocsr().astype(bool).tocoo().toarray())
        return
    assert from_scipy(matrix) == from_mask(mask)


@pytest.mark.parametrize("form", ["coo", "csr", "csc"])
def test_torch_layouts(form: str) -> None:
    mask = torch.rand(6, 9, generator=torch.Generator().manual_seed(0)) < 0.4
    matrix = getattr(mask.float(), "to_sparse" if form == "coo" else f"to_sparse_{form}")()
    assert from_scipy(matrix) == from_mask(mask)
    assert as_pattern(matrix.requires_grad_()) == from_mask(mask)
    blocks = torch.eye(3).repeat_interleave(2, 0).repeat_interleave(2, 1).to_sparse_bsr((2, 2))
    assert from_scipy(blocks, 2).weight_shape == (3, 1, 2, 2)


def test_stored_entries_are_edges() -> None:
    stored = scipy.sparse.coo_array(([0.0, 1.0, 2.0], ([0, 1, 1], [0, 1, 1])), shape=(2, 3))
    assert from_scipy(stored).mask().tolist() == [[True, False, False], [False, True, False]]
    stored = stored.tocsr()
    stored.eliminate_zeros()
    assert from_scipy(stored).n_edges == 1
    places = torch.tensor([[0, 0], [1, 1]])
    twice = torch.sparse_coo_tensor(places, torch.ones(2), (1, 3), check_invariants=True)
    assert from_scipy(twice).mask().tolist() == [[False, True, False]]


@pytest.mark.parametrize("density", [0.0, 0.01, 0.1, 0.124, 0.126, 0.9, 1.0])
@pytest.mark.parametrize("block", [(1, 1), (2, 3)])
def test_records_rebuild_the_edges(density: float, block: tuple[int, int]) -> None:
    mask = np.random.default_rng(1).random((40, 700)) < density
    mask[3], mask[-1, -1] = False, density > 0
    pattern = from_mask(np.kron(mask, np.ones(block)), block)
    spec = json.loads(json.dumps(pattern.spec))
    assert spec["data"].startswith("csr:") == (mask.mean() < 1 / 8)
    again = Pattern.from_spec(spec)
    assert again == pattern
    assert again.digest == pattern.digest
    assert again.key == pattern.key


def test_records_of_before_are_read() -> None:
    mask = np.random.default_rng(2).random((30, 50)) < 0.05
    data = base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()
    spec = {"family": "edges", "n_in": 50, "n_out": 30, "block": [1, 1], "data": data}
    assert Pattern.from_spec(spec) == from_mask(mask)


def _planes(numbers: list[int]) -> str:
    planes = np.array(numbers, dtype="<u4").view(np.uint8).reshape(-1, 4).T.tobytes()
    return "csr:" + base64.b64encode(zlib.compress(planes)).decode()


@pytest.mark.parametrize(
    "data",
    [
        "csr:",
        "csr:AAAA",
        "csr:" + base64.b64encode(zlib.compress(b"123")).decode(),
        _planes([1]),
        _planes([1, 1, 0, 0]),
        _planes([1, 0, 0, 4]),
        _planes([2, 0, 0, 1, 0]),
        _planes([2, 0, 0, 1, 2**32 - 1]),
        _planes([2**32 - 1, 2, 0, 0]),
    ],
)
def test_damaged_records(data: str) -> None:
    spec = {"family": "edges", "n_in": 4, "n_out": 3, "block": [1, 1], "data": data}
    with pytest.raises(ValueError, match=r"^recorded edges of a 4 -> 3 pattern are damaged$"):
        Pattern.from_spec(spec)


def test_nothing_is_recorded_before_it_is_asked_for() -> None:
    pattern = from_edges([0], [1])
    weight = torch.ones(pattern.weight_shape, requires_grad=True)
    ops.forward(torch.ones(3, 2), weight, None, pattern).sum().backward()
    assert not {"spec", "_key"} & vars(pattern).keys()
    assert pattern.family == "edges"
    assert not {"spec", "_key"} & vars(pattern).keys()


@pytest.mark.parametrize("kind", ["uniform", "power law"])
def test_memory_is_that_of_the_edges(kind: str) -> None:
    """11,000 neurons a side, whose dense mask would take 115 MiB."""
    n, rng = 11_000, np.random.default_rng(0)
    counts = np.full(n, 8)
    if kind == "power law":
        counts = np.minimum((rng.pareto(1.1, n) * 2).astype(int), 500)
        counts[5] = 10_000
    rows = np.repeat(np.arange(n), counts)
    flat = np.unique(rows * n + (n * rng.random(len(rows)) ** 3).astype(np.int64))
    rng.shuffle(flat)
    rows, columns = flat // n, flat % n
    tracemalloc.start()
    try:
        layer = SparseLinear(n, n, pattern=from_edges(rows, columns, n_in=n, n_out=n))
        state = layer.state_dict()
        again = SparseLinear.from_state_dict(state)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert again.pattern == layer.pattern
    # int64 pairs and their order, and a record of at most 4 bytes an edge and a half in base64
    assert peak < 120 * len(flat) + 2**20
    assert again.weight.numel() <= 1.1 * len(flat)


def test_a_layer_takes_masks_and_matrices() -> None:
    mask = torch.rand(6, 9, generator=torch.Generator().manual_seed(0)) < 0.4
    expected = from_mask(mask)
    for given_pattern in (
        *(mask, mask.int(), mask.numpy(), mask.tolist(), mask.float().to_sparse_csr()),
        scipy.sparse.coo_array(mask.numpy()),
    ):
        layer = SparseLinear(9, 6, pattern=given_pattern)
        assert layer.pattern == expected
    blocks = torch.eye(3).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert SparseLinear(6, 6, pattern=blocks, block=2).weight.shape == (3, 1, 2, 2)
    with pytest.raises(ValueError, match=r"^Pattern\(edges, 9 -> 6, .* does not fit a layer 6 -> "):
        SparseLinear(6, 9, pattern=mask)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ([0, 1], [0]),
            ValueError,
            r"^rows and columns must be as long as each other, got 2 and 1; edge i runs from left "
            r"neuron columns\[i\] to right neuron rows\[i\]$",
        ),
        (
            ([0, 1, 0], [1, 0, 1]),
            ValueError,
            "^edge listed twice: right block 0 takes left block 1 more than once; each pair",
        ),
        (([0, -1], [0, 1]), ValueError, "^rows must be positions of neurons, from 0, got -1$"),
        (
            ([0, 2], [0, 1], 2, 2),
            ValueError,
            r"^rows must lie in 0..1 for n_out 2, got 0..2$",
        ),
        (([0], [-3], 5, 5), ValueError, r"^columns must lie in 0..4 for n_in 5, got -3..-3$"),
        (([0], [5], 5), ValueError, r"^columns must lie in 0..4 for n_in 5, got 5..5$"),
        (
            ([0.0], [1]),
            TypeError,
            "^rows must be whole numbers, the positions of neurons, got float64$",
        ),
        (([0], [True]), TypeError, "^columns must be whole numbers, the .*, got bool$"),
        (([0], ["a"]), TypeError, "^columns must be whole numbers, the .*, got <U1$"),
        (([[0]], [[1]]), ValueError, r"^rows must be \[edges\], got shape \[1, 1\]$"),
        (([0], 1), ValueError, r"^columns must be \[edges\], got shape \[\]$"),
        (([], []), ValueError, "^no edges tell no sizes; give n_out$"),
        (([], [], None, 2), ValueError, "^no edges tell no sizes; give n_in$"),
        (([0], [0], 1.5), TypeError, "^n_in must be a whole number, got 1.5$"),
        (
            ([], [], 0, 2),
            ValueError,
            "^a junction needs at least 1 neuron a side, got 0 -> 2$",
        ),
        (
            ([0, 0, 1], [2, 3, 2], 4, 2, 2),
            ValueError,
            r"^block \(0, 1\) has 3 of its 2x2 edges; list all or none, or choose a smaller block$",
        ),
        (
            ([0, 0, 1, 0], [2, 3, 2, 2], 4, 2, 2),
            ValueError,
            "^edge listed twice: right neuron 0 takes left neuron 2 more than once; each pair",
        ),
        (([0], [0], 3, 3, 2), ValueError, "^block 2x2 does not divide 3 outputs x 3 inputs; "),
        (
            (np.array([2**64 - 1], dtype=np.uint64), [0]),
            ValueError,
            "^rows must be numbers of neurons, got 18446744073709551615$",
        ),
        (([[0], [1, 2]], [0, 1]), TypeError, "^rows must be a list of whole numbers: "),
    ],
)
def test_bad_edges(arguments: Any, error: type[Exception], message: str) -> None:
    rows, columns, n_in, n_out, block = (*arguments, *[None] * 3)[:5]
    with pytest.raises(error, match=message):
        from_edges(rows, columns, n_in=n_in, n_out=n_out, block=block or 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: from_scipy(np.eye(3)),
            TypeError,
            "^from_scipy takes a sparse matrix of scipy or torch, got ndarray; dense ones are for "
            "from_mask$",
        ),
        (
            lambda: from_scipy(torch.eye(3)),
            TypeError,
            "^from_scipy takes a sparse matrix of scipy or torch, got Tensor; dense",
        ),
        (
            lambda: from_scipy(scipy.sparse.coo_array(np.ones(3))),
            ValueError,
            r"^a sparse matrix must be \[n_out, n_in\], got shape \[3\]$",
        ),
        (
            lambda: from_scipy(torch.ones(2, 2, 2).to_sparse(2)),
            ValueError,
            r"^a sparse matrix must be \[n_out, n_in\], got shape \[2, 2, 2\] with 1 dense dim",
        ),
        (
            lambda: from_scipy(scipy.sparse.csr_array(np.eye(3)), 2),
            ValueError,
            "^block 2x2 does not divide 3 outputs x 3 inputs; ",
        ),
        (
            lambda: from_mask(scipy.sparse.eye(3)),
            TypeError,
            "^from_mask takes a dense mask, got .* in a sparse layout; from_scipy takes it as it",
        ),
        (
            lambda: from_mask(torch.eye(3).to_sparse()),
            TypeError,
            "^from_mask takes a dense mask, got Tensor in a sparse layout; from_scipy takes it",
        ),
        (
            lambda: SparseLinear(3, 3, pattern="regular"),
            TypeError,
            r"^pattern must be a Pattern, a mask \[n_out, n_in\] or a sparse matrix, got "
            "'regular'; the name of a family goes to family=$",
        ),
        (
            lambda: SparseLinear(3, 3, pattern=np.eye(3), banks=3),
            TypeError,
            "^a layer with pattern= takes no banks, which would choose one; leave them out, or",
        ),
        (
            lambda: SparseLinear(8, 8, 0.5, familiy="regular"),
            TypeError,
            "^unknown option 'familiy' of the auto family, which takes banks, kind, dither, "
            r"bank_map; did you mean family\?$",
        ),
        (
            lambda: nearest(8, 8, density=0.5, family="regular", bank=2),
            TypeError,
            r"^unknown option 'bank' of the regular family, which takes none; did you mean banks\?",
        ),
        (
            lambda: nearest(8, 8, density=0.5, xyz=2),
            TypeError,
            "^unknown option 'xyz' of the auto family, which takes banks, kind, dither, bank_map$",
        ),
        (
            lambda: nearest(8, 8, density=0.5, family="cyclic", kind=2),
            ValueError,
            "^a cyclic pattern takes no kind; leave them out, or choose the clash_free family",
        ),
    ],
)
def test_what_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("density", ["abc", [0.5], "0.5", b"1", None])
def test_densities_that_are_no_number(density: Any) -> None:
    message = r"^density must be a number, got "
    calls: list[Any] = [
        lambda: random(8, 8, density=density),
        lambda: neighbours(8, 8, density),
        lambda: allocate([8, 8, 8], density),
    ]
    if density is not None:
        calls += [
            lambda: SparseLinear(8, 8, density),
            lambda: nearest(8, 8, density=density),
            lambda: clash_free(8, 8, density=density),
            lambda: regular(8, 8, density=density),
        ]
    for call in calls:
        with pytest.raises(TypeError, match=message):
            call()


@pytest.mark.parametrize("density", [np.float32(0.5), torch.tensor(0.5), np.array(0.5)])
def test_numbers_of_any_type_are_densities(density: Any) -> None:
    assert SparseLinear(8, 8, density).density == 0.5
    assert random(8, 8, density=density).key == random(8, 8, density=0.5).key


@pytest.mark.parametrize("degree", ["fan_in", "fan_out"])
def test_degrees_are_whole(degree: str) -> None:
    with pytest.raises(TypeError, match=f"^{degree} must be a whole number, got '3'$"):
        SparseLinear(8, 8, **{degree: "3"})


def test_giant_junctions_are_refused_before_they_are_drawn() -> None:
    message = (
        r"^a 1000000 -> 1000000 junction with 500,000,000,000 edges would need 1,863 GiB for its "
        r"weights in float32, and int32 numbers at most 2,147,483,647 of its blocks; "
        r"choose a lower density or a larger block$"
    )
    big = 10**6
    for call in (
        lambda: SparseLinear(big, big, 0.5),
        lambda: nearest(big, big, fan_in=big // 2),
        lambda: regular(big, big, density=0.5),
        lambda: clash_free(big, big, density=0.5),
        lambda: cyclic(big, big, density=0.5),
        lambda: random(big, big, density=0.5),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(
        ValueError, match=r"^a random .* all of its 1,000,000,000,000 pairs .* 8,382 GiB; draw the"
    ):
        random(big, big, density=1e-6)


def test_what_does_not_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*arguments: object) -> None:
        raise MemoryError("Unable to allocate 13.4 GiB for an array")

    monkeypatch.setattr(families_module, "Rng", exhausted)
    message = (
        r"^a regular pattern 8 -> 4 cannot be drawn in the memory of this machine \(Unable to "
        r"allocate 13.4 GiB for an array\); choose a lower density or a larger block$"
    )
    with pytest.raises(RuntimeError, match=message):
        regular(8, 4, fan_in=2)

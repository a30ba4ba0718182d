"""Rows of very different lengths: stored without padding, computed as if they had it."""

from __future__ import annotations

import copy
import io
import json

import numpy as np
import pytest
import torch
from support import (
    RUNNERS,
    Case,
    assert_exact,
    assert_within_bound,
    normals,
    random_blocks,
    running_on,
    small_integers,
)
from torch import Tensor

from dnc_sparse import backends, ops
from dnc_sparse.backends import cpu, cuda, padded, planner, reference, triton
from dnc_sparse.backends.explanation import explain
from dnc_sparse.nn import SparseLinear
from dnc_sparse.nn.init import he_normal_
from dnc_sparse.patterns import Pattern, from_edges, from_mask, random, regular

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def heavy_tail(
    rows: int, columns: int, block: tuple[int, int] = (1, 1), seed: int = 0, giant: bool = True
) -> Pattern:
    """Rows of few blocks, empty ones among them, and perhaps one that takes every column."""
    rng = np.random.default_rng(seed)
    counts = np.minimum((rng.pareto(1.2, rows) * 2).astype(int), columns)
    counts[rng.integers(rows, size=rows // 10)] = 0
    if giant:
        counts[rows // 2] = columns
    blocks = np.zeros((rows, columns), dtype=bool)
    for row, count in enumerate(counts):
        blocks[row, rng.choice(columns, count, replace=False)] = True
    return from_mask(np.kron(blocks, np.ones(block, dtype=bool)), block)


def power_law_columns(rows: int, columns: int, seed: int = 0) -> Pattern:
    """Rows alike, columns not: the transposed table would be padded to the longest column."""
    rng = np.random.default_rng(seed)
    keys = rng.random((rows, columns)) ** (1 + np.arange(columns))
    return Pattern(columns, rows, np.argsort(-keys, axis=1)[:, :7])


PATTERNS = {
    "heavy tail": heavy_tail(200, 150),
    "no giant": heavy_tail(400, 90, seed=1, giant=False),
    "many tiles": heavy_tail(60, 900, seed=2),
    "blocks 4x4": heavy_tail(70, 60, (4, 4), seed=3),
    "blocks 1x8": heavy_tail(70, 40, (1, 8), seed=4),
    "blocks 3x5": heavy_tail(60, 60, (3, 5), seed=5),
    "blocks 16x16": heavy_tail(55, 45, (16, 16), seed=6),
    "one row": from_edges([599] * 70, range(70), n_in=70, n_out=600),
    "first row": from_edges([0] * 900 + [5], [*range(900), 899], n_in=900, n_out=6),
    "random": random(250, 230, density=0.08, seed=7),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_weight_has_one_number_per_edge(name: str) -> None:
    pattern = PATTERNS[name]
    assert pattern.compact
    assert int(np.prod(pattern.weight_shape)) == pattern.n_edges
    assert pattern.weight_shape == (*pattern.sources.shape, *pattern.block)
    assert np.array_equal(pattern.row_of, np.nonzero(pattern.padded.sources >= 0)[0])
    layer = SparseLinear(pattern.n_in, pattern.n_out, pattern=pattern)
    assert layer.weight.numel() == layer.n_edges


def test_a_gene_to_pathway_mask_stores_its_edges() -> None:
    rng = np.random.default_rng(0)
    counts = np.full(1387, 24)
    counts[0] = 1300
    counts[1:] += rng.integers(0, 2, 1386)
    rows = np.repeat(np.arange(1387), counts)
    columns = np.concatenate([rng.choice(9229, count, replace=False) for count in counts])
    pattern = from_edges(rows, columns, n_in=9229, n_out=1387)
    assert pattern.padded.weight_shape == (1387, 1300, 1, 1)
    assert SparseLinear(9229, 1387, pattern=pattern).weight.numel() == len(rows)


def test_layout_follows_the_padding() -> None:
    # 2,047 slots are empty, 2,048 are
    assert not from_edges([0] * 2048 + [1], [*range(2048), 0]).compact
    assert from_edges([0] * 2049 + [1], [*range(2049), 0]).compact
    # 2,399 slots are empty for 24,001 edges, 4,798 for 24,002
    many = np.arange(24_000)
    assert not from_edges(np.r_[many // 10, 0], np.r_[many % 10, 10]).compact
    assert from_edges(np.r_[many // 10, 0, 0], np.r_[many % 10, 10, 11]).compact


@pytest.mark.parametrize(
    "pattern",
    [
        regular(50, 60, fan_in=7, seed=2),
        Pattern(4, 3, np.array([[3, 0], [-1, 2], [-1, -1]])),
        random(64, 64, density=1 / 2, seed=1),
    ],
    ids=repr,
)
def test_even_patterns_are_padded(pattern: Pattern) -> None:
    assert not pattern.compact
    assert pattern.padded is pattern
    assert pattern.digest == pattern.padded_digest
    assert pattern.weight_shape[:2] == (pattern.rows, pattern.slots)
    weight = torch.ones(pattern.weight_shape)
    assert padded.to_padded(weight, pattern) is padded.from_padded(weight, pattern) is weight


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", PATTERNS)
def test_equals_oracle_on_small_integers(name: str, runner: str) -> None:
    with running_on(runner):
        backend = backends.select("cpu", torch.float32)
        for dtype in DTYPES:
            for batch in (0, 1, 2, 5, 16, 70):
                assert_exact(small_integers(PATTERNS[name], batch, dtype), backend)


def test_oracle_equals_a_masked_dense_product() -> None:
    for name, pattern in PATTERNS.items():
        case = small_integers(pattern, 7, torch.float64)
        mask = torch.from_numpy(pattern.mask())
        dense = torch.zeros(pattern.n_out, pattern.n_in, dtype=torch.float64)
        bo, bi = pattern.block
        for row, column, block in zip(
            pattern.edge_rows.tolist(), pattern.indices.tolist(), case.weight[:, 0], strict=True
        ):
            dense[row * bo : (row + 1) * bo, column * bi : (column + 1) * bi] = block
        results = case.results(reference)
        assert torch.equal(results["forward"], case.x @ dense.T + case.bias), name
        assert torch.equal(results["grad_input"], case.grad_y @ dense), name
        truth = (case.grad_y.T @ case.x)[mask]
        assert torch.equal(reference.dense_weight(results["grad_weight"], pattern)[mask], truth)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["heavy tail", "blocks 3x5"])
def test_dense_arithmetic_and_ways_between(name: str, dtype: torch.dtype) -> None:
    with planner.use("dense"):
        for batch in (0, 1, 40):
            assert_exact(small_integers(PATTERNS[name], batch, dtype), cpu)
    assert_within_bound(normals(PATTERNS[name], 300, dtype), cpu)


@pytest.mark.parametrize("runner", RUNNERS)
def test_uneven_columns_equal_the_oracle(runner: str) -> None:
    pattern = power_law_columns(300, 200)
    assert not pattern.compact
    with running_on(runner):
        for batch in (1, 20, 70):
            case = small_integers(pattern, batch, torch.float32)
            assert_exact(case, backends.select("cpu", torch.float32))
            blocks = random_blocks(40, 60, 0.2, (2, 4))
            assert_exact(
                small_integers(blocks, batch, torch.float32), backends.select("cpu", torch.float32)
            )


@pytest.mark.parametrize("runner", RUNNERS)
def test_more_rows_than_a_column_once_could_have(runner: str) -> None:
    rows = np.arange(70_000)
    pattern = from_edges(np.r_[rows, [5] * 19], np.r_[np.zeros(len(rows), int), np.arange(1, 20)])
    assert pattern.compact
    with running_on(runner):
        for batch in (1, 20):
            case = small_integers(pattern, batch, torch.float32)
            assert_exact(case, backends.select("cpu", torch.float32))


@pytest.mark.parametrize("runner", RUNNERS)
def test_wide_and_nearly_empty(runner: str) -> None:
    rng = np.random.default_rng(0)
    flat = np.unique(rng.integers(0, 70_000 * 20, 3000))
    pattern = from_edges(flat // 70_000, flat % 70_000, n_in=70_000, n_out=20)
    turned = from_edges(flat % 70_000, flat // 70_000, n_in=20, n_out=70_000)
    with running_on(runner):
        for each in (pattern, turned):
            for batch in (1, 3, 20):
                case = small_integers(each, batch, torch.float32)
                assert_exact(case, backends.select("cpu", torch.float32))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bit_for_bit_what_padded_rows_give(dtype: torch.dtype) -> None:
    for name in ("no giant", "blocks 4x4", "random"):
        pattern = PATTERNS[name]
        case = normals(pattern, 40, dtype)
        with planner.use("sparse"):
            mine = case.results(cpu)
            weight = padded.to_padded(case.weight, pattern)
            theirs = Case(
                pattern.padded, case.x, weight, case.bias, case.grad_y
            ).results(cpu)  # fmt: skip
        for function, result in theirs.items():
            if function.endswith("grad_weight"):
                assert not result[torch.from_numpy(pattern.padded.sources.copy()) < 0].any()
                result = padded.from_padded(result, pattern)
            assert torch.equal(mine[function], result), (name, function)


def test_backends_that_count_on_padded_rows_get_them() -> None:
    pattern = PATTERNS["blocks 3x5"]
    asked: list[Pattern] = []

    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
    ) -> Tensor:
        asked.append(pattern)
        return reference.forward(x, weight, bias, pattern, relu)

    def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
        asked.append(pattern)
        return reference.grad_weight(grad_y, x, pattern)

    def backward(
        grad_y: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, bias: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        asked.append(pattern)
        return reference.backward(grad_y, x, weight, pattern, bias)

    case = small_integers(pattern, 6, torch.float32)
    forward, grad_weight, backward = map(padded.on_padded_rows, (forward, grad_weight, backward))
    expected = case.results(reference)
    y = forward(case.x, case.weight, bias=case.bias, pattern=pattern)
    assert torch.equal(y, expected["forward"])
    grad = grad_weight(case.grad_y, case.x, pattern)
    assert torch.equal(grad, expected["grad_weight"])
    both = backward(case.grad_y, case.x, case.weight, pattern, True)
    assert torch.equal(both[1], expected["backward, grad_weight"])
    assert all(not each.compact and each == pattern for each in asked)


def test_rows_too_uneven_to_be_padded_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padded, "MAX_INDEX", 1000)
    pattern = PATTERNS["heavy tail"]
    case = small_integers(pattern, 2, torch.float32)
    message = (
        r"^Pattern\(edges, 150 -> 200, .*\) has rows so uneven that 30,000 slots would pad them, "
        r"more than int32 numbers \(1,000\), and this backend counts on padded rows; run it on the "
    )
    for call in (
        lambda: triton.forward(case.x, case.weight, None, pattern),
        lambda: cuda.grad_weight(case.grad_y, case.x, pattern),
    ):
        with pytest.raises(RuntimeError, match=message):
            call()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["heavy tail", "blocks 1x8"])
def test_a_layer_is_its_dense_one(name: str, bias: bool, relu: bool) -> None:
    pattern = PATTERNS[name]
    place = {"dtype": torch.float64}
    layer = SparseLinear(
        pattern.n_in, pattern.n_out, pattern=pattern, bias=bias, relu=relu, **place
    )
    dense = layer.to_dense()
    x = torch.randn(9, pattern.n_in, dtype=torch.float64)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = dense(theirs).relu() if relu else dense(theirs)
    y = layer(mine)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)
    assert dense.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, reference.edge_weight(dense.weight.grad, pattern))
    again = SparseLinear.from_dense(dense, pattern=pattern)
    assert torch.equal(again.weight, layer.weight)


@pytest.mark.parametrize("name", ["heavy tail", "blocks 3x5"])
def test_first_and_second_derivatives(name: str) -> None:
    pattern = heavy_tail(60, 60, seed=8) if name == "heavy tail" else PATTERNS[name]
    assert pattern.compact
    case = normals(pattern, 2, torch.float64)
    x, weight, bias = (t.requires_grad_() for t in (case.x, case.weight, case.bias))
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(
            lambda x, w, b: ops.forward(x, w, b, pattern), (x, weight, bias), fast_mode=True
        )


def test_initial_weights_follow_the_edges_of_their_row() -> None:
    pattern = PATTERNS["heavy tail"]
    layer = SparseLinear(pattern.n_in, pattern.n_out, pattern=pattern)
    bound = 1 / np.sqrt(pattern.counts[pattern.row_of])
    assert (layer.weight.detach().abs().numpy()[:, 0, 0, 0] <= bound + 1e-6).all()
    long = layer.weight[torch.from_numpy(pattern.row_of == pattern.rows // 2)]
    assert 0.9 / np.sqrt(pattern.slots) < long.abs().max() <= 1 / np.sqrt(pattern.slots)
    he_normal_(layer, fan_in="sparse")
    long = layer.weight[torch.from_numpy(pattern.row_of == pattern.rows // 2)]
    assert abs(long.std() * np.sqrt(pattern.slots / 2) - 1) < 0.2


def test_compiles_and_exports() -> None:
    pattern = heavy_tail(60, 80, seed=9)
    layer = SparseLinear(80, 60, pattern=pattern)
    x = torch.randn(5, 80)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    compiled(mine).square().sum().backward()
    grad, layer.weight.grad = layer.weight.grad, None
    layer(theirs).square().sum().backward()
    assert torch.equal(mine.grad, theirs.grad)
    assert torch.equal(grad, layer.weight.grad)
    batch = torch.export.Dim("batch")
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
    assert torch.equal(program.module()(x[:3]), layer(x[:3]))


def test_compiles_before_anything_asked_for_the_key() -> None:
    case = small_integers(heavy_tail(60, 80, seed=10), 3, torch.float32)
    compiled = torch.compile(
        lambda x: ops.forward(x, case.weight, None, case.pattern),
        fullgraph=True,
        backend="aot_eager",
    )
    assert "_key" not in vars(case.pattern)
    expected = reference.forward(case.x, case.weight, None, case.pattern)
    assert torch.equal(compiled(case.x), expected)


def test_copies_and_records() -> None:
    for name, pattern in PATTERNS.items():
        layer = SparseLinear(pattern.n_in, pattern.n_out, pattern=pattern)
        file = io.BytesIO()
        torch.save(layer.state_dict(), file)
        file.seek(0)
        again = SparseLinear.from_state_dict(torch.load(file))
        assert again.pattern == pattern, name
        assert again.pattern.digest == pattern.digest, name
        assert torch.equal(again.weight, layer.weight), name
        assert torch.equal(copy.deepcopy(layer).weight, layer.weight), name
        assert pattern == pattern.padded, name
        assert hash(pattern) == hash(pattern.padded), name
        assert Pattern.from_key(pattern.key) is pattern, name
        assert Pattern.from_key(pattern.padded.key) is pattern, name


def old_state(pattern: Pattern, weight: Tensor) -> dict[str, Tensor]:
    """What version 0.1 saved before rows were compact."""
    record = json.dumps({"spec": pattern.spec, "digest": pattern.padded_digest})
    return {
        "weight": padded.to_padded(weight, pattern),
        "bias": torch.zeros(pattern.n_out),
        "_extra_state": torch.frombuffer(bytearray(record.encode()), dtype=torch.uint8),
    }


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", ["random", "heavy tail", "blocks 3x5"])
def test_states_saved_in_padded_rows_are_read(name: str, assign: bool) -> None:
    pattern = PATTERNS[name]
    weight = torch.randn(pattern.weight_shape)
    state = old_state(pattern, weight)
    assert torch.equal(SparseLinear.from_state_dict(state).weight, weight)
    layer = SparseLinear(pattern.n_in, pattern.n_out, pattern=pattern)
    layer.load_state_dict(state, assign=assign)
    assert torch.equal(layer.weight, weight)
    # the caller's state is left as it was
    assert state["weight"].shape == pattern.padded.weight_shape


def test_digests_of_before_are_known() -> None:
    # as commit 034b9b2 computed them, of padded rows
    assert random(200, 150, density=0.1, seed=3).digest == "950c744a56f251b2"
    blocks = random(800, 1200, density=0.05, block=(4, 2), seed=3)
    assert blocks.padded_digest == "a3d53267dbc26137"
    assert blocks.digest != "a3d53267dbc26137"
    assert blocks.has_digest("a3d53267dbc26137")
    assert random(64, 64, density=1 / 2, seed=1).digest == "3206f6f9c6adb892"
    assert regular(60, 50, fan_in=7, seed=2).digest == "631e6757d7e00742"
    assert not PATTERNS["blocks 4x4"].has_digest(blocks.padded_digest)


def test_weights_of_another_uneven_pattern_are_refused() -> None:
    pattern, other = PATTERNS["random"], random(250, 230, density=0.08, seed=8)
    layer = SparseLinear(250, 230, pattern=pattern)
    for state in (
        SparseLinear(250, 230, pattern=other).state_dict(),
        old_state(other, torch.ones(other.weight_shape)),
    ):
        with pytest.raises(RuntimeError, match=r"the weights belong to random\(n_in=250, "):
            layer.load_state_dict(state)


def test_the_planner_explains_them() -> None:
    pattern = PATTERNS["heavy tail"]
    with planner.use("sparse"):
        text = str(explain(pattern, batch=64))
    assert text.startswith("Pattern(edges, 150 -> 200, ")
    assert "grad_weight" in text

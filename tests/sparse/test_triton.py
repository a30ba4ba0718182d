"""The Triton kernels against the oracle: on a GPU, or in Triton's interpreter without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support import Case, assert_exact, assert_within_bound, normals, random_blocks, small_integers

from dnc_sparse import backends, nn
from dnc_sparse.backends import reference, tiles, triton
from dnc_sparse.backends.tiles import Tile
from dnc_sparse.patterns import Pattern, clash_free, cyclic

# Triton 3.6's interpreter converts arrays of one number
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GPU_ONLY = pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
DTYPES = [torch.float32, torch.float16] + [torch.bfloat16] * (DEVICE.type == "cuda")
PATTERNS = {
    "varying 16x16": random_blocks(5, 4, 0.5, (16, 16)),
    "varying 8x32": random_blocks(6, 3, 0.5, (8, 32)),
    "varying 32x8": random_blocks(3, 7, 0.5, (32, 8)),
    "rows alike, columns not": Pattern(64, 64, [[0, 1], [0, 2], [0, 3], [1, 2]], (16, 16)),
    "columns alike, rows not": Pattern(64, 32, [[0, 1, 2], [3, -1, -1]], (16, 16)),
    "shared by groups 32x16": clash_free(128, 128, density=1 / 2, block=(32, 16), seed=1),
    "clash-free 8x8": clash_free(64, 64, density=1 / 2, block=8, seed=1),
    "clash-free 128x128": clash_free(256, 256, density=1 / 2, block=128, seed=1),
    "cyclic, a new slope each sweep": cyclic(128, 64, density=1 / 2, block=16, banks=2, seed=1),
    "cyclic, rows over two sweeps": cyclic(96, 48, fan_in=64, block=8, banks=4, seed=1),
    "more outputs than inputs": clash_free(32, 512, fan_in=16, block=16, seed=1),
    "fully connected": random_blocks(2, 3, 1.0, (16, 16)),
    "no edge": random_blocks(4, 6, 0.0, (8, 8)),
}


@pytest.fixture(scope="module", autouse=True)
def _runnable() -> None:
    reason = triton.unavailable(DEVICE.type)
    if reason is not None:
        pytest.skip(f"triton: {reason}")


@contextmanager
def tf32() -> Iterator[None]:
    """Let float32 use tensor cores, whose tiles are those of the half types."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def on_device(case: Case) -> Case:
    return case.map(lambda t: t.to(DEVICE))


def with_tiles(product: Tile, transposed: Tile, gradients: Tile) -> SimpleNamespace:
    """A backend whose every function takes the given tile."""

    def backward(grad_y, x, weight, pattern, bias):  # type: ignore[no-untyped-def]
        fused = weight if gradients.kernel == "fused" else None
        grad_x, grad, grad_bias = triton.gradients(gradients, grad_y, x, fused, pattern, bias)
        return (
            triton.grad_input(grad_y, weight, pattern) if fused is None else grad_x,
            grad,
            grad_bias,
        )

    return SimpleNamespace(
        forward=lambda *arguments: triton.product(product, *arguments),
        grad_input=lambda grad_y, weight, pattern: triton.product(
            transposed, grad_y, weight, None, pattern, transposed=True
        ),
        grad_weight=triton.grad_weight,
        backward=backward,
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_equals_oracle_on_small_integers(name: str, dtype: torch.dtype) -> None:
    for batch in (0, 1, 37) if dtype == torch.float32 else (37,):
        assert_exact(on_device(small_integers(PATTERNS[name], batch, dtype)), triton)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["varying 16x16", "cyclic, a new slope each sweep"])
def test_within_bound_of_oracle(name: str, dtype: torch.dtype) -> None:
    assert_within_bound(on_device(normals(PATTERNS[name], 100, dtype)), triton)


@pytest.mark.parametrize("name", ["varying 8x32", "clash-free 128x128", "shared by groups 32x16"])
def test_every_tile_equals_oracle(name: str) -> None:
    pattern, dtype = PATTERNS[name], torch.float16
    case = on_device(small_integers(pattern, 40, dtype))

    def small(function: tiles.FunctionName) -> list[Tile]:
        """Fewer tokens and more parts, which takes the interpreter less."""
        fits = tiles.fitting(function, pattern, dtype, 2**14, triton._gpu(DEVICE))
        shrunk = [replace(t, tokens=16, parts=min(t.parts + 1, 2)) for t, _ in fits]
        return list(dict.fromkeys(replace(t, warps=4, stages=2) for t in shrunk))

    forward, grad_input = small("forward"), small("grad_input")
    gradients = small("backward") + small("grad_weight")
    kernels = {tile.kernel for tile in (*forward, *grad_input, *gradients)}
    assert kernels == {"streamed", "resident", "fused", "separate"}
    most = max(map(len, (forward, grad_input, gradients)))
    for i in range(most):
        chosen = (proposed[i % len(proposed)] for proposed in (forward, grad_input, gradients))
        assert_exact(case, with_tiles(*chosen))  # type: ignore[arg-type]


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)])
def test_every_gpu_has_tiles(capability: tuple[int, int]) -> None:
    gpu = tiles.Gpu(capability, 100)
    functions: tuple[tiles.FunctionName, ...] = ("forward", "grad_input", "grad_weight")
    for block in (8, 16, 32, 64, 128, 256):
        pattern = clash_free(512, 512, density=1 / 2, block=block, seed=1)
        for dtype, ieee in ((torch.float16, False), (torch.float32, False), (torch.float32, True)):
            for function in functions:
                fits = tiles.fitting(function, pattern, dtype, 1000, gpu, ieee)
                assert fits, (block, dtype, function)
                for tile, side in fits:
                    assert tile.shared_bytes(dtype.itemsize, gpu) <= gpu.shared_bytes
                    assert tile.tokens * tile.parts < 2 * 1000
                    assert side.owned_width % tile.width == 0


def test_float32_takes_tensor_cores_where_torch_does() -> None:
    pattern = PATTERNS["clash-free 8x8"]
    case = on_device(small_integers(pattern, 20, torch.float32))
    asked = ("forward", pattern, torch.float32, 2**14, DEVICE)
    assert {tile.kernel for tile in triton.candidates(*asked)} == {"streamed"}
    with tf32():
        assert triton.candidates(*asked)[0].kernel == "resident"
        assert_exact(case, triton)


def test_depth_is_walked_through_in_ragged_steps() -> None:
    pattern = PATTERNS["varying 8x32"]
    case = on_device(small_integers(pattern, 20, torch.float32))
    tile = Tile("streamed", 16, 8, 64, by_row=True)
    y = triton.product(tile, case.x, case.weight, case.bias, pattern)
    assert torch.equal(y, reference.forward(case.x, case.weight, case.bias, pattern))


@pytest.mark.parametrize("transposed", [False, True])
def test_arithmetic_and_table_agree(transposed: bool) -> None:
    for seed in range(4):
        arithmetic = cyclic(128, 96, fan_in=32, block=8, banks=2, seed=seed)
        table = Pattern(128, 96, arithmetic.sources, arithmetic.block)
        case = small_integers(arithmetic, 4, torch.float32, seed)
        case = on_device(case)
        gathered = case.grad_y if transposed else case.x
        by_rule, by_table = (
            triton.product(None, gathered, case.weight, None, p, transposed=transposed)
            for p in (arithmetic, table)
        )
        assert torch.equal(by_rule, by_table)


def test_accepts_any_strides() -> None:
    case = on_device(small_integers(PATTERNS["varying 16x16"], 20, torch.float32))
    n_in = case.pattern.n_in
    transposed = case.map(lambda t: t.mT.contiguous().mT if t.dim() == 2 else t)
    sliced = case.map(lambda t: t.repeat_interleave(2, dim=-1)[..., ::2])
    apart = replace(case, x=torch.cat([case.x, case.x], 1)[:, n_in // 2 : n_in // 2 + n_in])
    misaligned = replace(case, x=torch.cat([case.x[:, :3], case.x], 1)[:, 3:])
    expanded = replace(
        case, x=case.x[:1].expand(20, -1), grad_y=case.grad_y[:, :1].expand_as(case.grad_y)
    )
    negated = case.map(lambda t: torch.complex(t, -t).conj().imag)
    assert negated.x.is_neg()
    for strided in (transposed, sliced, apart, misaligned, expanded, negated):
        assert_exact(strided, triton)


@pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning")
def test_leaves_no_gap_in_its_results() -> None:
    # this mode fills torch.empty with NaN
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        for name in ("varying 16x16", "columns alike, rows not", "clash-free 8x8", "no edge"):
            assert_exact(on_device(small_integers(PATTERNS[name], 3, torch.float16)), triton)
    finally:
        torch.use_deterministic_algorithms(False)


def test_relu_is_that_of_torch() -> None:
    pattern = PATTERNS["fully connected"]
    case = on_device(small_integers(pattern, 20, torch.float32))
    case.x[3] = float("nan")
    for kernel in ("streamed", "resident"):
        tile = Tile(kernel, 16, 16, 64, by_row=True, parts=2)
        y = triton.product(tile, case.x, case.weight, case.bias, pattern, relu=True)
        expected = reference.forward(case.x, case.weight, case.bias, pattern, relu=True)
        assert torch.equal(y.nan_to_num(-1), expected.nan_to_num(-1))


def test_not_a_number_stays_where_it_is_connected() -> None:
    pattern = PATTERNS["rows alike, columns not"]
    case = on_device(small_integers(pattern, 5, torch.float32))
    case.x[:, 48:] = float("nan")
    y = triton.forward(case.x, case.weight, None, pattern)
    assert torch.equal(
        y.isnan(),
        (case.x.isnan().float() @ torch.from_numpy(pattern.mask().T).float().to(DEVICE)) > 0,
    )


def test_repeats_bit_by_bit() -> None:
    case = on_device(normals(PATTERNS["clash-free 128x128"], 90, torch.float16))
    first, second = case.results(triton), case.results(triton)
    for name, result in first.items():
        assert torch.equal(result, second[name]), name


def test_trains_a_layer() -> None:
    with backends.use_backend("triton"):
        layer = nn.SparseLinear(64, 32, density=0.5, block=16, device=DEVICE)
        x = torch.ones(7, 64, device=DEVICE, requires_grad=True)
        layer(x).square().sum().backward()
    dense = torch.nn.Linear(64, 32, device=DEVICE)
    with torch.no_grad():
        dense.weight.copy_(layer.to_dense().weight)
        dense.bias.copy_(layer.bias)
    same = torch.ones(7, 64, device=DEVICE, requires_grad=True)
    dense(same).square().sum().backward()
    torch.testing.assert_close(x.grad, same.grad)
    torch.testing.assert_close(layer.bias.grad, dense.bias.grad)


def test_operators_are_registered_well() -> None:
    pattern = PATTERNS["shared by groups 32x16"]
    case = on_device(normals(pattern, 3, torch.float32))
    x, weight = case.x.requires_grad_(), case.weight.requires_grad_()
    with backends.use_backend("triton"):
        for arguments in (
            (x, weight, case.bias, pattern.key),
            (x, weight, None, pattern.key, True),
        ):
            torch.library.opcheck(torch.ops.dnc_sparse.forward, arguments)


@GPU_ONLY
def test_offsets_pass_int32() -> None:
    pattern = clash_free(1024, 1024, density=1 / 8, block=64, seed=1)
    x = torch.ones(2**21 + 5, 1024, dtype=torch.bfloat16, device=DEVICE)
    weight = torch.ones(pattern.weight_shape, dtype=torch.bfloat16, device=DEVICE)
    y = triton.forward(x, weight, None, pattern)
    assert bool((y[-300:] == pattern.fan_in).all())


@GPU_ONLY
def test_runs_in_a_graph_on_another_stream() -> None:
    case = on_device(small_integers(PATTERNS["clash-free 128x128"], 40, torch.float16))
    expected = case.results(triton)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = case.results(triton)
    graph.replay()
    for name, result in captured.items():
        assert torch.equal(result, expected[name]), name


def test_states_why_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    said = triton.unavailable(DEVICE.type, torch.float64)
    assert (
        said
        == "torch.float64 is not among its dtypes: torch.float32, torch.bfloat16, torch.float16"
    )
    for block in ((4, 16), (16, 24)):
        assert triton.unavailable(DEVICE.type, torch.float32, block) == (
            f"block {block[0]}x{block[1]} has a side that is not a power of two from 8 on"
        )
    assert triton.unavailable("mps") == f"it computes on {DEVICE.type!r} tensors, not on 'mps'"
    monkeypatch.setattr(triton, "_kernels", lambda: None)
    message = (
        r"^backend 'triton' cannot run here: Triton is not installed; "
        r"pip install 'dnc-sparse\[gpu\]' \(Linux only\)$"
    )
    with pytest.raises(RuntimeError, match=message), backends.use_backend("triton"):
        pass
    with pytest.raises(RuntimeError, match=message):
        triton._module()


def test_states_what_a_gpu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "_interpreted", lambda: False)
    monkeypatch.setattr(triton, "_no_gpu", triton._no_gpu.__wrapped__)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert triton.unavailable() == "torch finds no CUDA device"
    assert triton.unavailable("cpu") == "it computes on 'cuda' tensors, not on 'cpu'"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert triton.unavailable() == "a GPU here has compute capability 7.5; it needs 8.0"


def test_backend_is_chosen_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends.PREFERENCE, DEVICE.type, ("triton", "reference"))
    monkeypatch.setattr(backends, "_selected", backends._selected.__wrapped__)
    assert backends.select(DEVICE.type, torch.float32, (16, 16)) is triton
    assert backends.select(DEVICE.type, torch.float32, (1, 1)) is reference
    message = r"^backend 'triton' cannot run here: block 1x1 has a side that is not a power of two"
    with backends.use_backend("triton"), pytest.raises(RuntimeError, match=message):
        backends.select(DEVICE.type, torch.float32, (1, 1))

"""The cuda backend against the oracle: its kernels emulated on the CPU, and on a GPU if there is.

`gpu` runs the same tests as `emulated`, with tensors on the device.
"""

from __future__ import annotations

from types import SimpleNamespace

import emulated_cuda
import pytest
import torch
from support import (
    Case,
    assert_exact,
    assert_within_bound,
    balanced_tiles,
    normals,
    random_blocks,
    small_integers,
)

from dnc_sparse import backends
from dnc_sparse.backends import cuda, cuda_few, cuda_module, cuda_tables, reference
from dnc_sparse.patterns import Pattern, clash_free, regular

PATTERNS = {
    **{
        f"varying {bo}x{bi}": random_blocks(13, 11, 0.4, (bo, bi))
        for bo, bi in [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (4, 1), (1, 4), (8, 2), (3, 5)]
    },
    "several tiles": random_blocks(37, 500, 0.1),
    "several tiles of blocks": random_blocks(9, 120, 0.2, (4, 4)),
    "blocks across tiles": random_blocks(5, 50, 0.5, (6, 10)),
    "more rows than a block of threads": balanced_tiles(64, 1100, 64, 3),
    "fully connected": random_blocks(12, 33, 1.0),
    "no edge": random_blocks(4, 6, 0.0),
    "one neuron": random_blocks(1, 1, 1.0),
    "banks": clash_free(1024, 48, density=1 / 8),
    "banks of blocks": clash_free(1024, 32, density=1 / 8, block=4),
    "more banks than lanes, but not twice": balanced_tiles(320, 9, 8, 8),
    "several runs of a bank": balanced_tiles(48 * 16, 9, 16, 8),
}
DTYPES = list(cuda.DTYPES)


@pytest.fixture(params=["emulated", "gpu"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the kernels run; the backend refuses any other device."""
    if request.param == "emulated":
        module = emulated_cuda.module()
        monkeypatch.setattr(cuda_module, "compiled", lambda: module)
    elif (reason := cuda.unavailable()) is not None:
        pytest.skip(f"cuda: {reason}")
    monkeypatch.setattr(backends, "_selected", backends._selected.__wrapped__)
    return "cpu" if request.param == "emulated" else "cuda"


def exact(pattern: Pattern, batch: int, dtype: torch.dtype, device: str) -> Case:
    return small_integers(pattern, batch, dtype).map(lambda t: t.to(device))


@pytest.mark.parametrize("name", PATTERNS)
def test_equals_oracle_on_small_integers(name: str, device: str) -> None:
    for dtype in DTYPES:
        for batch in (1, 7, 70):
            assert_exact(exact(PATTERNS[name], batch, dtype, device), cuda)


@pytest.mark.parametrize("batch", [0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 128, 129, 256, 257, 600])
def test_equals_oracle_at_every_batch_size(batch: int, device: str) -> None:
    for name in ("varying 1x1", "varying 2x2", "varying 4x4"):
        for dtype in DTYPES:
            assert_exact(exact(PATTERNS[name], batch, dtype, device), cuda)


@pytest.mark.parametrize("batch", [2, 200])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_within_bound_of_oracle(dtype: torch.dtype, batch: int, device: str) -> None:
    for name in ("several tiles", "varying 4x4", "banks", "varying 1x1"):
        case = normals(PATTERNS[name], batch, dtype)
        assert_within_bound(case.map(lambda t: t.to(device)), cuda)


@pytest.mark.parametrize("batch", [5, 40])
def test_accepts_any_strides(batch: int, device: str) -> None:
    case = exact(PATTERNS["varying 4x4"], batch, torch.float32, device)
    transposed = case.map(lambda t: t.mT.contiguous().mT if t.dim() == 2 else t)
    sliced = case.map(lambda t: t.repeat_interleave(2, dim=-1)[..., ::2])
    # starts 4 bytes past a multiple of 16
    misaligned = case.map(lambda t: torch.cat((t.new_zeros(1), t.flatten()))[1:].view(t.shape))
    assert misaligned.weight.data_ptr() % 16
    expanded = Case(
        case.pattern,
        case.x[:1].expand(batch, -1),
        case.weight,
        case.bias,
        case.grad_y[:, :1].expand(batch, case.pattern.n_out),
    )
    negated = case.map(lambda t: torch.complex(t, -t).conj().imag)
    assert negated.x.is_neg()
    for strided in (transposed, sliced, misaligned, expanded, negated):
        assert_exact(strided, cuda)


@pytest.mark.parametrize("batch", [3, 40])
def test_relu_and_not_a_number(batch: int, device: str) -> None:
    for name in ("varying 1x1", "varying 4x4"):
        case = exact(PATTERNS[name], batch, torch.float32, device)
        y = cuda.forward(case.x, case.weight, case.bias, case.pattern, relu=True)
        expected = reference.forward(case.x, case.weight, case.bias, case.pattern, relu=True)
        assert torch.equal(y, expected)
        case.x[1] = float("nan")
        y = cuda.forward(case.x, case.weight, case.bias, case.pattern, relu=True)
        joined = torch.from_numpy(case.pattern.fan_ins > 0)
        assert bool(y[1, joined.to(device)].isnan().all())
        assert torch.equal(y[2:], expected[2:])


@pytest.mark.parametrize("batch", [3, 40])
def test_inputs_without_edges_are_not_read(batch: int, device: str) -> None:
    for name in ("varying 1x1", "several tiles", "varying 3x5"):
        case = exact(PATTERNS[name], batch, torch.float32, device)
        expected = case.results(cuda)
        case.x[:, torch.from_numpy(case.pattern.fan_outs == 0).to(device)] = float("inf")
        case.weight[torch.from_numpy(case.pattern.sources.copy()) < 0] = float("nan")
        results = case.results(cuda)
        for name, result in expected.items():
            assert torch.equal(results[name], result), name


def test_results_are_equal_over_runs(device: str) -> None:
    case = normals(PATTERNS["several tiles"], 700, torch.float32).map(lambda t: t.to(device))
    first = case.results(cuda)
    for name, result in case.results(cuda).items():
        assert torch.equal(result, first[name]), name


def test_parts_of_the_batch_are_added(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = exact(PATTERNS["varying 2x2"], 1000, torch.float32, device)
    for blocks in (0, 1, 1000):
        monkeypatch.setattr(cuda, "BLOCKS_EACH", blocks)
        assert_exact(case, cuda)


def test_backward_returns_all_gradients(device: str) -> None:
    case = exact(PATTERNS["varying 4x4"], 20, torch.float32, device)
    expected = reference.backward(case.grad_y, case.x, case.weight, case.pattern, True)
    results = cuda.backward(case.grad_y, case.x, case.weight, case.pattern, True)
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))
    assert cuda.backward(case.grad_y, case.x, case.weight, case.pattern, False)[2] is None


def test_named_backend_runs_the_ops(device: str) -> None:
    case = exact(PATTERNS["varying 1x1"], 20, torch.float32, device)
    with backends.use_backend("cuda"):
        assert backends.select(device, torch.float32) is cuda
        message = r"^backend 'cuda' cannot run here: torch.float64 is not among its dtypes: torch"
        with pytest.raises(RuntimeError, match=message):
            backends.select(device, torch.float64)
        message = r"^backend 'cuda' cannot run here: it computes on CUDA devices, not on 'mps'$"
        with pytest.raises(RuntimeError, match=message):
            backends.select("mps", torch.float32)
    assert_exact(case, cuda)


def test_inputs_of_a_clash_free_pattern_never_meet_in_a_bank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = emulated_cuda.module()
    monkeypatch.setattr(cuda_module, "compiled", lambda: module)
    patterns = {
        "clash free": clash_free(1024, 64, density=1 / 8),
        "random": regular(1024, 64, density=1 / 8, seed=0),
    }
    ratio = {}
    for name, pattern in patterns.items():
        for batch in (1, 4, 8):
            case = small_integers(pattern, batch, torch.bfloat16)
            with emulated_cuda.counted_wavefronts() as wavefronts:
                cuda.forward(case.x, case.weight, None, pattern)
            ratio[name, batch] = wavefronts.taken / wavefronts.least
    assert all(ratio["clash free", batch] == 1 for batch in (1, 4, 8))
    # 32 random places fill a bank 3.5 deep, a quarter of them by 16 bytes 2.6; copying x is free
    assert ratio["random", 1] > 2.9
    assert ratio["random", 4] > 2.1


def test_samples_in_the_lanes_never_meet_in_a_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    module = emulated_cuda.module()
    monkeypatch.setattr(cuda_module, "compiled", lambda: module)
    case = small_integers(PATTERNS["several tiles"], 300, torch.float32)
    with emulated_cuda.counted_wavefronts() as wavefronts:
        case.results(cuda)
    assert wavefronts.taken == wavefronts.least > 0


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("tile", [16, 224])
def test_tables_hold_every_edge_once(name: str, tile: int) -> None:
    pattern = PATTERNS[name]
    blocks = int(pattern.counts.sum())
    for direction, cells in (("forward", pattern.block[1]), ("backward", pattern.block[0])):
        table = cuda_tables.build(pattern, direction, tile, torch.device("cpu"))
        order, offset = table.order.flatten(), table.offset.flatten()
        groups = table.output_block // table.share
        assert int((order >= 0).sum()) == blocks * cells * groups
        assert bool(((offset == table.tile) == (order < 0)).all())
        assert table.first[-1] == table.quads == len(table.group)
        assert bool((table.first.diff() >= 0).all())


def test_banks_are_found_where_rows_are_balanced() -> None:
    table = cuda_few.build(clash_free(4096, 8, density=1 / 8), torch.device("cpu"))
    assert table is not None
    assert (table.depth, table.runs) == (32, 1)
    table = cuda_few.build(regular(4096, 8, density=1 / 8, seed=0), torch.device("cpu"))
    assert table is not None
    assert table.depth == 0
    wide = Pattern(2**17, 1, [[5, 70000]])
    assert cuda_few.build(wide, torch.device("cpu")) is None


def test_wide_junction_runs_without_the_kernel_for_few_samples(device: str) -> None:
    case = exact(Pattern(2**17, 2, [[5, 70000], [9, 131071]]), 2, torch.float32, device)
    y = cuda.forward(case.x, case.weight, case.bias, case.pattern)
    assert torch.equal(y, reference.forward(case.x, case.weight, case.bias, case.pattern))


def test_not_built_states_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_module, "compiled", lambda: None)
    message = r"^backend 'cuda' cannot run here: built without CUDA kernels: dnc_sparse._cuda "
    with pytest.raises(RuntimeError, match=message), backends.use_backend("cuda"):
        pass
    with pytest.raises(RuntimeError, match=message):
        cuda_module.load()


def test_no_gpu_states_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_module, "compiled", lambda: SimpleNamespace(DEVICE="cuda"))
    monkeypatch.setattr(torch.version, "cuda", None)
    assert cuda.unavailable() == f"torch {torch.__version__} is a build without CUDA"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda.unavailable() == "no CUDA driver or device was found"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Old")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    assert cuda.unavailable() == (
        "device 0, Old, has compute capability 7.5; 8.0 or newer is needed "
        "(hide it by CUDA_VISIBLE_DEVICES)"
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 0))
    assert cuda.unavailable("cuda", torch.float32) is None


def test_error_of_a_launch_is_raised(device: str) -> None:
    module = cuda_module.load()
    sizes = dict.fromkeys(("rows", "slots", "output_block", "column_block", "columns", "runs"), 1)
    table = module.FewTable(**sizes, side=3, pitch=4, depth=0, offset=0, count=0)
    where = module.Place(0, 0), module.DType.float32
    with pytest.raises(RuntimeError, match=r"^CUDA: invalid argument"):
        module.few(*where, table, 0, 1, 1, 0, 0, False, 0, 1, 1, 1)

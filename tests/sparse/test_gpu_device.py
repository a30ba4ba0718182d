"""Layers on a real GPU: what torch does with them, and what only a device can get wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import assert_exact, assert_within_bound, normals, random_blocks, small_integers
from torch import Tensor, nn

from dnc_sparse import SparseLinear, ops, sparsify
from dnc_sparse.backends import gpu, measurements, planner, reference
from dnc_sparse.patterns import Pattern, nearest

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")

PATTERNS = {
    "blocks of 64": nearest(512, 256, density=1 / 4, block=64),
    "blocks of 16": nearest(256, 512, density=1 / 8, block=16),
    "grouped rows": nearest(256, 512, density=1 / 4, block=(64, 16)),
    "cyclic": nearest(1024, 1024, density=1 / 8, block=32, family="cyclic"),
    "varying": random_blocks(7, 9, 0.4, (32, 32)),
    "edges": nearest(256, 128, density=1 / 8),
    "small blocks": nearest(256, 128, density=1 / 4, block=4),
    "odd blocks": random_blocks(5, 6, 0.5, (3, 5)),
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=["measured", "sparse", "dense"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    with planner.use(request.param):
        yield request.param


def on_device(
    pattern: Pattern, batch: int, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    case = normals(pattern, batch, dtype)
    names = ("x", "weight", "bias", "grad_y")
    return {name: getattr(case, name).cuda() for name in names}


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_equals_the_oracle(name: str, dtype: torch.dtype) -> None:
    for batch in (0, 1, 16, 70, 300):
        assert_exact(small_integers(PATTERNS[name], batch, dtype).map(Tensor.cuda), gpu)
    assert_within_bound(normals(PATTERNS[name], 200, dtype).map(Tensor.cuda), gpu)


@pytest.mark.parametrize("name", PATTERNS)
def test_repeated_runs_are_equal_bit_for_bit(name: str) -> None:
    case = normals(PATTERNS[name], 3000, torch.bfloat16).map(Tensor.cuda)
    first = case.results(gpu)
    for _ in range(5):
        for function, result in case.results(gpu).items():
            assert torch.equal(result, first[function]), function


@pytest.mark.parametrize("name", ["blocks of 64", "edges"])
def test_strides_and_alignment(name: str) -> None:
    pattern = PATTERNS[name]
    case = small_integers(pattern, 70, torch.bfloat16).map(Tensor.cuda)

    def moved(tensor: Tensor) -> Tensor:
        """Return an equal tensor that begins at an odd address of its memory."""
        memory = tensor.new_zeros(tensor.numel() + 1)[1:]
        return memory.view(tensor.shape).copy_(tensor)

    assert_exact(case.map(moved), gpu)
    assert_exact(case.map(lambda t: t.mT.contiguous().mT if t.dim() == 2 else t), gpu)
    assert_exact(case.map(lambda t: torch.cat([t, t], -1)[..., : t.shape[-1]]), gpu)


@pytest.mark.parametrize("name", PATTERNS)
def test_a_step_can_be_captured_as_a_graph(name: str) -> None:
    pattern = PATTERNS[name]
    inputs = on_device(pattern, 128)
    leaves = [inputs[key].requires_grad_() for key in ("x", "weight", "bias")]

    def step() -> Tensor:
        for leaf in leaves:
            leaf.grad = None
        y = ops.forward(*leaves, pattern, True)
        y.backward(inputs["grad_y"])
        return y

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = step()
    with torch.no_grad():
        for leaf in leaves:
            leaf.copy_(torch.randn_like(leaf))
    graph.replay()
    found = [y.clone(), *(leaf.grad.clone() for leaf in leaves)]
    for own, true in zip(found, [step(), *(leaf.grad for leaf in leaves)], strict=True):
        assert torch.equal(own, true)


def test_what_has_not_run_cannot_be_captured() -> None:
    pattern = nearest(512, 256, density=1 / 4, block=64, seed=4)
    inputs = on_device(pattern, 128)

    def capture() -> None:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            ops.forward(inputs["x"], inputs["weight"], None, pattern)

    with pytest.raises(
        RuntimeError, match=r"^forward of Pattern\(.*\) with 128 samples in float32"
    ):
        capture()
    ops.forward(inputs["x"], inputs["weight"], None, pattern)
    capture()


def test_works_on_the_current_stream() -> None:
    pattern = PATTERNS["blocks of 64"]
    inputs = on_device(pattern, 256)
    true = ops.forward(inputs["x"], inputs["weight"], None, pattern)
    stream, late = torch.cuda.Stream(), torch.zeros_like(inputs["x"])
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        # some milliseconds in which a kernel on another stream would read zeros
        torch.cuda._sleep(20_000_000)
        late.copy_(inputs["x"])
        y = ops.forward(late, inputs["weight"], None, pattern)
    stream.synchronize()
    assert torch.equal(y, true)


@pytest.mark.parametrize("name", PATTERNS)
def test_nothing_waits_for_the_device(name: str) -> None:
    layer = SparseLinear(
        PATTERNS[name].n_in, PATTERNS[name].n_out, pattern=PATTERNS[name], device="cuda"
    )
    x = torch.randn(100, layer.in_features, device="cuda", requires_grad=True)
    layer(x).sum().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer(x).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["blocks of 64", "edges"])
def test_compiled_and_under_autocast(name: str) -> None:
    pattern = PATTERNS[name]
    layer = SparseLinear(pattern.n_in, pattern.n_out, pattern=pattern, device="cuda")
    x = torch.randn(64, pattern.n_in, device="cuda", requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cuda", dtype):
            y, true = compiled(x), layer(x)
        assert y.dtype == true.dtype == dtype
        assert torch.equal(y, true)
        grads = [torch.autograd.grad(out.float().sum(), layer.parameters()) for out in (y, true)]
        for own, other in zip(*grads, strict=True):
            assert own.dtype == torch.float32
            assert torch.equal(own, other)


def test_trains_under_ddp(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    try:
        model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 64)).cuda()
        sparsify(model, density=1 / 4, block=16)
        parallel = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x, y = torch.randn(128, 256, device="cuda"), torch.randint(64, (128,), device="cuda")
        losses = []
        for _ in range(20):
            loss = nn.functional.cross_entropy(parallel(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    finally:
        torch.distributed.destroy_process_group()
    assert losses[-1] < losses[0]


def test_offsets_past_int32() -> None:
    pattern = nearest(1024, 1024, density=1 / 8, block=64)
    batch = 2**21 + 128
    x = torch.zeros(batch, 1024, device="cuda", dtype=torch.bfloat16)
    x[-64:] = torch.randn(64, 1024, device="cuda")
    weight = torch.randn(pattern.weight_shape, device="cuda", dtype=torch.bfloat16)
    with planner.use("sparse"):
        y = gpu.forward(x, weight, None, pattern)
        assert not y[:-64].any()
        grad_x, grad, _ = gpu.backward(y, x, weight, pattern, False)
        assert not grad_x[:-64].any()
    last_x, last_y, exact = (t.double() for t in (x[-64:], y[-64:], weight))
    for own, true in (
        (last_y, reference.forward(last_x, exact, None, pattern)),
        (grad_x[-64:], reference.grad_input(last_y, exact, pattern)),
        (grad, reference.grad_weight(last_y, last_x, pattern)),
    ):
        # bfloat16 has 8 bits
        assert (own.double() - true).norm() <= 2**-8 * true.norm()


def test_tensors_on_two_devices_are_refused() -> None:
    pattern = PATTERNS["edges"]
    inputs = on_device(pattern, 4)
    message = r"^weight is on cuda:0 but x is on cpu; move both to one device$"
    with pytest.raises(RuntimeError, match=message):
        ops.forward(inputs["x"].cpu(), inputs["weight"], None, pattern)


def test_a_choice_is_kept_for_the_next_process() -> None:
    pattern = nearest(512, 256, density=1 / 4, block=64, seed=3)
    inputs = on_device(pattern, 64)
    arguments = (inputs["x"], inputs["weight"], inputs["bias"], pattern, False)
    case = gpu.Case("forward", pattern, 64, torch.float32, torch.device("cuda", 0))
    first = gpu.decide(case, arguments)
    assert len(first.seconds) >= 2
    assert measurements.is_kept()
    measurements._loaded.clear()
    assert gpu.decide(case, arguments) == first

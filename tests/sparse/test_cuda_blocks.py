"""The block kernels of the cuda backend, on a GPU where there is one, else on the emulator."""

from __future__ import annotations

from collections.abc import Iterator

import emulated_cuda
import pytest
import torch
from support import (
    Case,
    assert_exact,
    assert_within_bound,
    normals,
    random_blocks,
    small_integers,
)
from torch import Tensor

from dnc_sparse.backends import cuda, cuda_blocks, cuda_module, reference
from dnc_sparse.patterns import Pattern, regular

# rows, columns, slots. Weights of 4 outputs stay on chip and others stream; out-degrees are 2, an
# odd 3, 6 and 8 (one group of blocks of 64, several of 128), and 10 (several groups of either)
SHAPES = [(4, 4, 2), (4, 4, 3), (6, 2, 2), (8, 2, 2), (10, 2, 2)]
MULTIPROCESSORS = 4


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run on the GPU or the emulator, on few multiprocessors, so that each has several units."""
    monkeypatch.setattr(cuda_blocks, "_properties", lambda device: (90, MULTIPROCESSORS))
    if torch.cuda.is_available() and cuda_module.compiled() is not None:
        yield "cuda"
        return
    module = emulated_cuda.module()
    monkeypatch.setattr(cuda_module, "compiled", lambda: module)
    yield "cpu"


def blocks_of(block: int, rows: int, columns: int, slots: int, seed: int = 0) -> Pattern:
    return regular(
        n_in=columns * block, n_out=rows * block, fan_in=slots * block, block=block, seed=seed
    )


def on(device: str, case: Case) -> Case:
    return case.map(lambda t: t.to(device))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("block", cuda_blocks.BLOCKS)
def test_equal_to_the_oracle_on_small_integers(
    device: str, block: int, shape: tuple[int, int, int]
) -> None:
    case = on(device, small_integers(blocks_of(block, *shape), 270, torch.bfloat16))
    assert_exact(case, cuda_blocks)
    assert_fused_exact(case)


def assert_fused_exact(case: Case) -> None:
    """Require ReLU and all gradients at once to equal the oracle's."""
    wide, dtype, pattern = case.map(lambda t: t.double()), case.x.dtype, case.pattern
    relu = cuda_blocks.forward(case.x, case.weight, case.bias, pattern, relu=True)
    expected = reference.forward(wide.x, wide.weight, wide.bias, pattern, relu=True)
    assert torch.equal(relu, expected.to(dtype))
    grads = cuda_blocks.backward(case.grad_y, case.x, case.weight, pattern, bias=True)
    grads_expected = reference.backward(wide.grad_y, wide.x, wide.weight, pattern, bias=True)
    for grad, exact in zip(grads, grads_expected, strict=True):
        assert grad is not None
        assert exact is not None
        assert torch.equal(grad, exact.to(dtype))


@pytest.mark.parametrize("batch", [0, 1, 63, 64, 129, 513])
@pytest.mark.parametrize("block", cuda_blocks.BLOCKS)
def test_any_batch(device: str, block: int, batch: int) -> None:
    pattern = blocks_of(block, 2, 2, 1)
    case = on(device, small_integers(pattern, batch, torch.float16))
    assert_exact(case, cuda_blocks)
    assert_fused_exact(case)
    assert cuda_blocks.backward(case.grad_y, case.x, case.weight, pattern, bias=False)[2] is None


@pytest.mark.parametrize("block", cuda_blocks.BLOCKS)
def test_clusters_share_weights_of_an_odd_number_of_panels(device: str, block: int) -> None:
    case = on(device, small_integers(blocks_of(block, 5, 5, 2), 600, torch.bfloat16))
    assert_exact(case, cuda_blocks)


@pytest.mark.parametrize("block", cuda_blocks.BLOCKS)
@pytest.mark.parametrize("dtype", cuda_blocks.DTYPES, ids=str)
def test_within_the_bound_and_the_same_again(device: str, block: int, dtype: torch.dtype) -> None:
    case = on(device, normals(blocks_of(block, 2, 4, 2), 140, dtype))
    assert_within_bound(case, cuda_blocks)
    again = case.results(cuda_blocks)
    for name, result in case.results(cuda_blocks).items():
        assert torch.equal(result, again[name]), name


def spread(tensor: Tensor) -> Tensor:
    """Every third column of a wider tensor."""
    wide = tensor.new_full((*tensor.shape[:-1], tensor.shape[-1] * 3), float("nan"))
    wide[..., ::3] = tensor
    return wide[..., ::3]


def shifted(tensor: Tensor) -> Tensor:
    """At an address that is no multiple of 16."""
    flat = tensor.new_full((tensor.numel() + 1,), float("nan"))
    flat[1:] = tensor.reshape(-1)
    return flat[1:].view(tensor.shape)


def padded(tensor: Tensor) -> Tensor:
    """With samples further apart than they are long."""
    wide = tensor.new_full((*tensor.shape[:-1], tensor.shape[-1] + 8), float("nan"))
    wide[..., :-8] = tensor
    return wide[..., :-8]


def odd(tensor: Tensor) -> Tensor:
    """With samples an odd number of elements apart."""
    wide = tensor.new_full((*tensor.shape[:-1], tensor.shape[-1] + 1), float("nan"))
    wide[..., :-1] = tensor
    return wide[..., :-1]


def turned(tensor: Tensor) -> Tensor:
    """With the first dimension innermost."""
    return tensor.movedim(0, -1).contiguous().movedim(-1, 0)


@pytest.mark.parametrize("change", [spread, shifted, padded, odd, turned])
def test_any_strides_and_addresses(device: str, change) -> None:  # type: ignore[no-untyped-def]
    case = on(device, small_integers(blocks_of(64, 2, 2, 1), 70, torch.float16))
    assert_exact(case.map(change), cuda_blocks)


def test_one_sample_for_all(device: str) -> None:
    case = on(device, small_integers(blocks_of(64, 2, 2, 1), 70, torch.bfloat16))
    same = Case(case.pattern, case.x[:1].expand(70, -1), case.weight, case.bias, case.grad_y)
    assert_exact(same, cuda_blocks)


def test_self_check_passes(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "cpu":
        monkeypatch.setattr(cuda_blocks, "DTYPES", (torch.bfloat16,))
    assert cuda_blocks.self_check(device) is None


def test_allowed_only_where_the_self_check_passes(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern, dtype, where = blocks_of(64, 2, 2, 1), torch.bfloat16, torch.device(device)
    reason = cuda_blocks.unavailable(pattern, dtype, where)
    assert reason is not None
    assert reason.startswith(f"not allowed on {device}; call ")
    with monkeypatch.context() as broken:
        broken.setattr(cuda_blocks._Plan, "forward", lambda plan, x, *_, **__: x * 0)
        reason = cuda_blocks.allow(device)
        assert reason is not None
        assert reason.startswith("forward of Pattern(")
        assert reason.endswith(f" differs from the oracle on {device}")
        assert cuda_blocks.unavailable(pattern, dtype, where) == reason
    monkeypatch.setattr(cuda_blocks, "self_check", lambda device: None)
    assert cuda_blocks.allow(device) is None
    assert cuda_blocks.unavailable(pattern, dtype, where) is None
    cuda_blocks.forbid(device)
    assert cuda_blocks.unavailable(pattern, dtype, where) is not None


def test_other_devices_are_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_blocks, "_properties", lambda device: (75, 40))
    reason = f"{device} has compute capability 7.5; these kernels are made for 9.0"
    assert cuda_blocks.self_check(device) == reason


@pytest.mark.parametrize(
    ("pattern", "dtype", "reason"),
    [
        (blocks_of(32, 2, 2, 1), torch.bfloat16, "blocks are 32x32, not 64x64 or 128x128"),
        (blocks_of(64, 2, 2, 1), torch.float32, "torch.float32 is not among torch.bfloat16, "),
        (random_blocks(4, 4, 0.4, (64, 64)), torch.float16, "rows or columns of blocks differ"),
        (random_blocks(4, 4, 0.0, (64, 64)), torch.float16, "the pattern has no edges"),
    ],
)
def test_unavailable_states_a_reason(
    device: str,
    pattern: Pattern,
    dtype: torch.dtype,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cuda_blocks, "_allowed", {device: None})
    stated = cuda_blocks.unavailable(pattern, dtype, torch.device(device))
    assert stated is not None
    assert stated.startswith(reason)


def test_sizes_past_the_copy_engine_are_refused(device: str) -> None:
    pattern = blocks_of(64, 2, 2, 1)
    plan = cuda_blocks._plan(pattern, torch.device(device))
    x = torch.zeros(1, 128, dtype=torch.bfloat16, device=device)
    weight = torch.zeros(pattern.weight_shape, dtype=torch.bfloat16, device=device)
    with pytest.raises(RuntimeError, match="invalid argument"):
        cuda_module.load().blocks_forward(
            *plan.head(x), x.data_ptr(), 128, weight.data_ptr(), 0, False, x.data_ptr(), 2**31
        )


def test_the_backend_takes_them_where_allowed(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = on(device, small_integers(blocks_of(64, 2, 2, 1), 70, torch.bfloat16))
    taken: list[str] = []
    for name in ("blocks_forward", "blocks_grad_input", "blocks_backward"):
        call = getattr(cuda_module.load(), name)

        def counted(*arguments: object, call: object = call, name: str = name) -> None:
            taken.append(name)
            call(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(cuda_module.load(), name, counted)
    assert_exact(case, cuda)
    assert taken == []
    monkeypatch.setattr(cuda_blocks, "_allowed", {str(case.x.device): None})
    assert_exact(case, cuda)
    assert set(taken) == {"blocks_forward", "blocks_grad_input", "blocks_backward"}

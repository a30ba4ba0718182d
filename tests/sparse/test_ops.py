"""The registered operators: gradients, tracing, autocast, and refusal of what does not fit."""

from __future__ import annotations

import itertools

import pytest
import torch
from support import (
    RUNNERS,
    balanced_tiles,
    normals,
    random_blocks,
    running_on,
    small_integers,
)
from torch._subclasses.fake_tensor import FakeTensorMode

from dnc_sparse import backends, ops
from dnc_sparse.backends import cpu, reference
from dnc_sparse.patterns import Pattern

PATTERNS = {
    "varying": random_blocks(5, 6, 0.5),
    "blocks": random_blocks(3, 4, 0.6, (2, 3)),
    "balanced": balanced_tiles(32, 8, 16, 3),
}


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("runner", ["reference", "cpu"])
@pytest.mark.parametrize("name", PATTERNS)
def test_first_and_second_derivatives(name: str, runner: str, relu: bool) -> None:
    pattern = PATTERNS[name]
    case = normals(pattern, 4, torch.float64)
    inputs = tuple(t.requires_grad_() for t in (case.x, case.weight, case.bias))
    used = torch.from_numpy(pattern.sources.copy())[:, :, None, None] >= 0

    def apply(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        # empty slots have no gradient, so they must not be varied either
        return ops.forward(x, weight * used, bias, pattern, relu)

    with running_on(runner):
        assert torch.autograd.gradcheck(apply, inputs)
        assert torch.autograd.gradgradcheck(apply, inputs)


@pytest.mark.parametrize("runner", ["reference", "cpu"])
@pytest.mark.parametrize("name", PATTERNS)
def test_registration(name: str, runner: str) -> None:
    pattern = PATTERNS[name]
    case = normals(pattern, 4, torch.float32)
    x, weight, bias, grad_y = (
        t.requires_grad_() for t in (case.x, case.weight, case.bias, case.grad_y)
    )
    calls = [
        ("forward", (x, weight, bias, pattern.key)),
        ("forward", (x, weight, bias, pattern.key, True)),
        ("grad_input", (grad_y, weight, pattern.key)),
        ("grad_weight", (grad_y, x, pattern.key)),
        ("backward", (grad_y.detach(), x.detach(), weight.detach(), pattern.key, True)),
        ("backward", (grad_y.detach(), x.detach(), weight.detach(), pattern.key, False)),
    ]
    with running_on(runner):
        for op, arguments in calls:
            torch.library.opcheck(getattr(torch.ops.dnc_sparse, op), arguments)


def test_gradients_equal_the_other_two_functions() -> None:
    pattern = PATTERNS["balanced"]
    case = small_integers(pattern, 9, torch.float32)
    x, weight, bias = (t.requires_grad_() for t in (case.x, case.weight, case.bias))
    ops.forward(x, weight, bias, pattern).backward(case.grad_y)
    assert torch.equal(x.grad, ops.grad_input(case.grad_y, weight, pattern))
    assert torch.equal(weight.grad, ops.grad_weight(case.grad_y, x, pattern))
    assert torch.equal(bias.grad, case.grad_y.sum(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", PATTERNS)
def test_relu_equals_torch_after_the_layer(name: str, runner: str, dtype: torch.dtype) -> None:
    pattern = PATTERNS[name]
    for batch in (0, 1, 5, 70):
        case = small_integers(pattern, batch, dtype)
        case.x[:1, :1] = float("nan")
        results = []
        with running_on(runner):
            for fused in (False, True):
                inputs = [t.clone().requires_grad_() for t in (case.x, case.weight, case.bias)]
                y = ops.forward(*inputs, pattern, fused)
                y = y if fused else torch.relu(y)
                y.backward(case.grad_y)
                results.append([y.detach(), *(t.grad for t in inputs)])
        for own, true in zip(*results, strict=True):
            torch.testing.assert_close(own, true, rtol=0, atol=0, equal_nan=True)
        # the case can fail: outputs of both signs, and zeros
        assert batch < 70 or {-1, 0, 1} <= set(
            ops.forward(case.x[1:], case.weight, case.bias, pattern).sign().unique().tolist()
        )


def test_without_a_bias_its_gradient_is_empty() -> None:
    pattern = PATTERNS["balanced"]
    case = normals(pattern, 9, torch.float32)
    op = torch.ops.dnc_sparse.backward
    assert op(case.grad_y, case.x, case.weight, pattern.key, False)[2].shape == (0,)
    assert reference.backward(case.grad_y, case.x, case.weight, pattern, False)[2] is None


def test_relu_keeps_its_output_and_no_more() -> None:
    pattern = PATTERNS["balanced"]
    case = normals(pattern, 9, torch.float32)
    weight = case.weight.requires_grad_()
    for relu in (False, True):
        kept: list[torch.Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, to=kept: to.append(t) or t, id):
            y = ops.forward(case.x, weight, None, pattern, relu)
        assert [t.data_ptr() for t in kept] == [case.x.data_ptr(), *[y.data_ptr()] * relu]


def test_changing_the_output_of_relu_is_noticed() -> None:
    pattern = PATTERNS["balanced"]
    case = normals(pattern, 9, torch.float32)
    y = ops.forward(case.x, case.weight.requires_grad_(), None, pattern, relu=True)
    y.add_(1)
    with pytest.raises(RuntimeError, match="has been modified by an inplace operation"):
        y.sum().backward()


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    pattern = PATTERNS["balanced"]
    case = normals(pattern, 9, torch.float32)
    weight = case.weight.requires_grad_()
    ops.forward(case.x, weight, None, pattern).sum().backward()
    assert weight.grad is not None
    assert case.x.grad is None
    frozen = case.weight.detach()
    x = case.x.clone().requires_grad_()
    ops.forward(x, frozen, case.bias, pattern).sum().backward()
    assert torch.equal(x.grad, ops.grad_input(torch.ones(9, pattern.n_out), frozen, pattern))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("device_dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_uses_the_dtype_of_the_user(device_dtype: torch.dtype, relu: bool) -> None:
    pattern = PATTERNS["balanced"]
    case = normals(pattern, 9, torch.float32)
    weight = case.weight.requires_grad_()
    with torch.autocast("cpu", dtype=device_dtype):
        y = ops.forward(case.x, weight, case.bias, pattern, relu)
    assert y.dtype == device_dtype
    y.float().sum().backward()
    assert weight.grad.dtype == torch.float32


def test_compiled_under_autocast() -> None:
    pattern = PATTERNS["balanced"]
    case = normals(pattern, 9, torch.float32)

    def call(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return ops.forward(x, case.weight, case.bias, pattern)

    y = torch.compile(call, fullgraph=True, backend="aot_eager")(case.x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, call(case.x))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_full_graph_compilation(dynamic: bool, fused: bool) -> None:
    pattern = PATTERNS["balanced"]
    case = small_integers(pattern, 9, torch.float32)

    def loss(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        y = ops.forward(x, weight, None, pattern, relu=fused)
        return (y if fused else torch.relu(y)).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    grads = []
    for function in (loss, compiled):
        weight = case.weight.clone().requires_grad_()
        function(case.x, weight).backward()
        grads.append(weight.grad)
    assert torch.equal(*grads)


def test_gradient_penalty_through_two_layers() -> None:
    first, second = PATTERNS["balanced"], random_blocks(3, 8, 0.7)
    case = normals(first, 5, torch.float64)
    weights = [case.weight, normals(second, 5, torch.float64).weight]

    def penalty(*weights: torch.Tensor) -> torch.Tensor:
        x = case.x.clone().requires_grad_()
        y = ops.forward(
            torch.tanh(ops.forward(x, weights[0], None, first)), weights[1], None, second
        )
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return slope.square().sum()

    inputs = [w.clone().requires_grad_() for w in weights]
    penalty(*inputs).backward()
    # the same through dense matrices
    dense = [w.clone().requires_grad_() for w in weights]
    matrices = [reference.dense_weight(w, p) for w, p in zip(dense, (first, second), strict=True)]
    x = case.x.clone().requires_grad_()
    y = torch.tanh(x @ matrices[0].T) @ matrices[1].T
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    slope.square().sum().backward()
    for own, true in zip(inputs, dense, strict=True):
        torch.testing.assert_close(own.grad, true.grad)


def test_a_graph_can_be_walked_again() -> None:
    pattern = PATTERNS["balanced"]
    case = normals(pattern, 5, torch.float64)
    weight = case.weight.requires_grad_()
    y = ops.forward(case.x, weight, None, pattern).square().sum()
    first, again = (torch.autograd.grad(y, weight, create_graph=True)[0] for _ in range(2))
    (plain,) = torch.autograd.grad(y, weight)
    assert torch.equal(first, again)
    assert torch.equal(first, plain)


def test_meta_tensors_give_shapes() -> None:
    pattern = PATTERNS["balanced"]
    x = torch.empty(7, pattern.n_in, device="meta")
    weight = torch.empty(pattern.weight_shape, device="meta")
    for relu in (False, True):
        assert ops.forward(x, weight, None, pattern, relu).shape == (7, pattern.n_out)


def test_autocast_leaves_float64_alone() -> None:
    pattern = PATTERNS["balanced"]
    case = normals(pattern, 9, torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ops.forward(case.x, case.weight, case.bias, pattern).dtype == torch.float64


def test_compiles_before_the_first_eager_call_in_inference_mode() -> None:
    pattern = balanced_tiles(48, 8, 16, 2, seed=7)
    case = small_integers(pattern, 9, torch.float32)
    compiled = torch.compile(
        lambda x: ops.forward(x, case.weight, None, pattern), fullgraph=True, backend="aot_eager"
    )
    with torch.inference_mode():
        y = compiled(case.x)
    assert torch.equal(y, ops.forward(case.x, case.weight, None, pattern))


def test_operators_check_what_they_are_given() -> None:
    pattern = PATTERNS["balanced"]
    case = normals(pattern, 9, torch.float32)
    operators = torch.ops.dnc_sparse
    with pytest.raises(ValueError, match=r"^weight must be \[8, 6, 1, 1\] for Pattern"):
        operators.forward(case.x, case.weight[:1], None, pattern.key)
    with pytest.raises(TypeError, match=r"^weight is torch.bfloat16 but grad_y is torch.float32; "):
        operators.grad_input(case.grad_y, case.weight.bfloat16(), pattern.key)
    with pytest.raises(ValueError, match=r"^x has batch 9 but grad_y has batch 4$"):
        operators.grad_weight(case.grad_y[:4], case.x, pattern.key)


def wrong_calls() -> dict[str, tuple[object, type[Exception], str]]:
    p = Pattern(4, 2, [[0, 1], [2, 3]])
    x, weight, bias, grad_y = (t for t in _tensors(p))
    shape = r"for Pattern\(edges, 4 -> 2, 4 edges.*got "
    return {
        "x too wide": (
            lambda: ops.forward(torch.zeros(3, 5), weight, bias, p),
            ValueError,
            rf"^x must be \[batch, 4\] {shape}\[3, 5\]$",
        ),
        "x of no dimension": (
            lambda: ops.forward(torch.zeros(()), weight, bias, p),
            ValueError,
            rf"^x must be \[batch, 4\] {shape}\[\]$",
        ),
        "x of one dimension": (
            lambda: ops.forward(torch.zeros(4), weight, bias, p),
            ValueError,
            rf"^x must be \[batch, 4\] {shape}\[4\]$",
        ),
        "x of three dimensions": (
            lambda: ops.forward(torch.zeros(3, 2, 4), weight, bias, p),
            ValueError,
            rf"^x must be \[batch, 4\] {shape}\[3, 2, 4\]$",
        ),
        "weight of a dense layer": (
            lambda: ops.forward(x, torch.zeros(2, 4), bias, p),
            ValueError,
            rf"^weight must be \[2, 2, 1, 1\] {shape}\[2, 4\]$",
        ),
        "bias too long": (
            lambda: ops.forward(x, weight, torch.zeros(4), p),
            ValueError,
            rf"^bias must be \[2\] {shape}\[4\]$",
        ),
        "dtypes differ": (
            lambda: ops.forward(x, weight.double(), bias, p),
            TypeError,
            r"^weight is torch.float64 but x is torch.float32; convert one, or run under",
        ),
        "integers": (
            lambda: ops.forward(x.long(), weight, bias, p),
            TypeError,
            r"^x must be floating point, got torch.int64$",
        ),
        "a sparse tensor": (
            lambda: ops.forward(x.to_sparse(), weight, bias, p),
            TypeError,
            r"^x must be an ordinary tensor, got torch.sparse_coo; to_dense\(\) it$",
        ),
        "devices differ": (
            lambda: ops.forward(x, weight.to("meta"), bias, p),
            RuntimeError,
            r"^weight is on meta but x is on cpu; move both to one device$",
        ),
        "batches differ": (
            lambda: ops.grad_weight(grad_y[:2], x, p),
            ValueError,
            r"^x has batch 3 but grad_y has batch 2$",
        ),
        "grad_y too wide": (
            lambda: ops.grad_input(x, weight, p),
            ValueError,
            rf"^grad_y must be \[batch, 2\] {shape}\[3, 4\]$",
        ),
    }


def _tensors(p: Pattern) -> tuple[torch.Tensor, ...]:
    case = normals(p, 3, torch.float32)
    return case.x, case.weight, case.bias, case.grad_y


@pytest.mark.parametrize("name", wrong_calls())
def test_refuses(name: str) -> None:
    call, error, message = wrong_calls()[name]
    with pytest.raises(error, match=message):
        call()


def test_eager_path_equals_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for operators in (False, True):
        if operators:
            monkeypatch.setattr(ops, "needs_operators", lambda *tensors: True)
        for pattern, relu in itertools.product(PATTERNS.values(), (False, True)):
            case = normals(pattern, 9, torch.float32)
            inputs = [t.requires_grad_() for t in (case.x, case.weight, case.bias)]
            y = ops.forward(*inputs, pattern, relu)
            y.backward(case.grad_y)
            results.append([y.detach(), *(t.grad for t in inputs)])
    half = len(results) // 2
    for eager, registered in zip(results[:half], results[half:], strict=True):
        assert all(map(torch.equal, eager, registered))


@pytest.mark.parametrize("relu", [False, True])
def test_without_gradients_the_result_is_the_same(relu: bool) -> None:
    pattern = PATTERNS["balanced"]
    case = normals(pattern, 9, torch.float32)
    arguments = (case.x, case.weight.requires_grad_(), case.bias, pattern, relu)
    y = ops.forward(*arguments)
    assert y.requires_grad
    with torch.no_grad():
        assert torch.equal(ops.forward(*arguments), y)
    case.weight.requires_grad_(False)
    frozen = ops.forward(*arguments)
    assert not frozen.requires_grad
    assert torch.equal(frozen, y)


def test_gradients_come_from_the_backend_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = PATTERNS["balanced"]
    case = normals(pattern, 9, torch.float32)
    inputs = [t.requires_grad_() for t in (case.x, case.weight, case.bias)]
    with backends.use_backend("reference"):
        y = ops.forward(*inputs, pattern)
    for name in ("grad_input", "grad_weight"):
        monkeypatch.setattr(cpu, name, lambda *_: pytest.fail("another backend"))
    y.backward(case.grad_y)
    assert all(t.grad is not None for t in inputs)


def test_fake_tensors_reach_no_kernel() -> None:
    pattern = PATTERNS["balanced"]
    with FakeTensorMode() as mode:
        x, weight = torch.empty(7, pattern.n_in), torch.empty(pattern.weight_shape)
        assert ops.forward(x, weight, None, pattern).shape == (7, pattern.n_out)
    outside = mode.from_tensor(torch.empty(7, pattern.n_in))
    weight = mode.from_tensor(torch.empty(pattern.weight_shape))
    assert ops.forward(outside, weight, None, pattern).shape == (7, pattern.n_out)

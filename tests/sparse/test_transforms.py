"""Sparse layers under torch's transforms: each equals the transform of a dense product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import balanced_tiles, random_blocks
from torch import Tensor, func, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from dnc_sparse import SparseLinear, SparseMLP, ops, sparsify
from dnc_sparse.backends import reference
from dnc_sparse.patterns import Pattern

# torch scripts its own formulas at the first forward derivative
# and warns of a node of its own in `linearize`, as for nn.Linear
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning", "ignore:Attempted to insert a get_attr Node"
)

PATTERNS = {
    "balanced": balanced_tiles(16, 8, 8, 2),
    "varying": random_blocks(5, 6, 0.5),
    "blocks": random_blocks(3, 4, 0.6, (2, 3)),
}
Layer = Callable[..., Tensor]


def junction(pattern: Pattern, relu: bool) -> Layer:
    def apply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return ops.linear(x, weight, bias, pattern, relu)

    return apply


def oracle(pattern: Pattern, relu: bool) -> Layer:
    def apply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = F.linear(x, dense(weight, pattern), bias)
        return y.relu() if relu else y

    return apply


def dense(weight: Tensor, pattern: Pattern) -> Tensor:
    """Write weights into a matrix by a product, which every transform of torch can do."""
    numbers = weight.numel()
    each = torch.eye(numbers, dtype=weight.dtype).view(numbers, *pattern.weight_shape)
    places = torch.stack([reference.dense_weight(one, pattern) for one in each]).flatten(1)
    return (weight.flatten() @ places).view(pattern.n_out, pattern.n_in)


def tensors(pattern: Pattern, *groups: int, batch: int = 3, seed: int = 0) -> tuple[Tensor, ...]:
    """Return x, weight, bias, with sizes in front if asked, and nothing in empty slots."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*groups, *shape, generator=generator, dtype=torch.float64)

    used = torch.from_numpy(pattern.sources.copy())[:, :, None, None] >= 0
    x, weight = draw(batch, pattern.n_in), draw(*pattern.weight_shape) * used
    return x, weight, draw(pattern.n_out)


def loss(layer: Layer) -> Layer:
    """Return a scalar function with second and third derivatives in every argument."""
    return lambda x, weight, bias: layer(x, weight, bias).tanh().pow(3).sum()


def grad_of_vjp(layer: Layer, p: Pattern) -> Any:
    y, pull = func.vjp(layer, *tensors(p))
    with torch.no_grad():
        return func.vmap(pull)(torch.eye(y.numel(), dtype=y.dtype).view(-1, *y.shape))


def nested_grad(layer: Layer, p: Pattern) -> Any:
    def slope(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return func.grad(loss(layer), argnums=(0, 1))(x, weight, bias)[0].square().sum()

    return func.grad(slope, argnums=(0, 1, 2))(*tensors(p))


def linearized(layer: Layer, p: Pattern) -> Any:
    y, push = func.linearize(layer, *tensors(p))
    return y, push(*tensors(p, seed=1))


def chunked(layer: Layer, p: Pattern) -> Any:
    x, weight, bias = tensors(p, 7)
    mapped = func.vmap(layer, in_dims=(0, None, None), chunk_size=3)
    return mapped(x, weight[0], bias[0])


def random_in_map(layer: Layer, p: Pattern) -> Any:
    x, weight, bias = tensors(p, 4)

    def noisy(x: Tensor) -> Tensor:
        return layer(F.dropout(x, 0.5), weight[0], bias[0])

    torch.manual_seed(0)
    return func.vmap(noisy, randomness="different")(x)


def mapped(*in_dims: int | None, out_dims: int = 0) -> Callable[[Layer, Pattern], Any]:
    def run(layer: Layer, p: Pattern) -> Any:
        arguments = [
            t[0] if d is None else t.movedim(0, d)
            for t, d in zip(tensors(p, 4), in_dims, strict=True)
        ]
        return func.vmap(layer, in_dims=in_dims, out_dims=out_dims)(*arguments)

    return run


def mapped_twice(
    outer: tuple[int | None, ...], inner: tuple[int | None, ...]
) -> Callable[[Layer, Pattern], Any]:
    def run(layer: Layer, p: Pattern) -> Any:
        # sizes in front: those of the outer map, then those of the inner one
        arguments = [
            t[(slice(None) if o is not None else 0, slice(None) if i is not None else 0)]
            for t, o, i in zip(tensors(p, 2, 3), outer, inner, strict=True)
        ]
        return func.vmap(func.vmap(layer, in_dims=inner), in_dims=outer)(*arguments)

    return run


def per_sample(layer: Layer, p: Pattern, batch: int = 1) -> Any:
    x, weight, bias = tensors(p, 5, batch=batch)
    each = func.vmap(func.grad(loss(layer), argnums=(1, 2)), in_dims=(0, None, None))
    return each(x, weight[0], bias[0])


def without_bias(layer: Layer, p: Pattern) -> Any:
    x, weight, _ = tensors(p, 4)
    ensemble = func.vmap(lambda x, w: layer(x, w, None))
    return ensemble(x, weight), func.jvp(ensemble, (x, weight), (x + 1, weight * 2))


TRANSFORMS: dict[str, Callable[[Layer, Pattern], Any]] = {
    "jvp": lambda f, p: func.jvp(f, tensors(p), tensors(p, seed=1)),
    "jvp in x": lambda f, p: func.jvp(
        lambda x: f(x, *tensors(p)[1:]), tensors(p)[:1], tensors(p, seed=1)[:1]
    ),
    "jvp in bias": lambda f, p: func.jvp(
        lambda bias: f(*tensors(p)[:2], bias), tensors(p)[2:], tensors(p, seed=1)[2:]
    ),
    "jvp of one sample": lambda f, p: func.jvp(
        lambda x: f(x, *tensors(p)[1:]), (tensors(p)[0][0],), (tensors(p, seed=1)[0][0],)
    ),
    "vjp": lambda f, p: func.vjp(f, *tensors(p))[1](torch.ones(3, p.n_out).double()),
    "vmap of vjp without gradients": grad_of_vjp,
    "grad": lambda f, p: func.grad(loss(f), argnums=(0, 1, 2))(*tensors(p)),
    "grad_and_value": lambda f, p: func.grad_and_value(loss(f), argnums=(1, 2))(*tensors(p)),
    "grad of grad": nested_grad,
    "jacrev": lambda f, p: func.jacrev(f, argnums=(0, 1, 2))(*tensors(p)),
    "jacrev in chunks": lambda f, p: func.jacrev(f, argnums=(0, 1), chunk_size=2)(*tensors(p)),
    "jacfwd": lambda f, p: func.jacfwd(f, argnums=(0, 1, 2))(*tensors(p)),
    "hessian": lambda f, p: func.hessian(loss(f), argnums=(0, 1))(*tensors(p, batch=2)),
    "reverse over forward": lambda f, p: func.jacrev(func.jacfwd(loss(f), argnums=1), argnums=0)(
        *tensors(p, batch=2)
    ),
    "forward over forward": lambda f, p: func.jacfwd(func.jacfwd(loss(f), argnums=1), argnums=1)(
        *tensors(p, batch=2)
    ),
    "reverse over reverse": lambda f, p: func.jacrev(func.jacrev(loss(f), argnums=0), argnums=1)(
        *tensors(p, batch=2)
    ),
    "forward over forward, all and tangents that vary": lambda f, p: func.jvp(
        lambda *a: func.jvp(loss(f), a, tuple(t.sin() for t in a)), tensors(p), tensors(p, seed=1)
    ),
    "forward over forward, weight then x": lambda f, p: func.jacfwd(
        func.jacfwd(loss(f), argnums=1), argnums=0
    )(*tensors(p, batch=2)),
    "forward over forward, x then weight": lambda f, p: func.jacfwd(
        func.jacfwd(loss(f), argnums=0), argnums=1
    )(*tensors(p, batch=2)),
    "three times forward, all": lambda f, p: func.jvp(
        lambda *a: func.jvp(lambda *b: func.jvp(loss(f), b, tuple(t * t for t in b)), a, a),
        tensors(p),
        tensors(p, seed=1),
    ),
    "forward over reverse over forward": lambda f, p: func.jvp(
        func.grad(lambda *a: func.jvp(loss(f), a, tuple(t * t for t in a))[1], argnums=(0, 1, 2)),
        tensors(p),
        tensors(p, seed=1),
    ),
    "three times reverse": lambda f, p: func.grad(
        lambda *a: (
            func.grad(lambda *b: func.grad(loss(f), argnums=1)(*b).square().sum(), argnums=0)(*a)
            .square()
            .sum()
        ),
        argnums=(0, 1, 2),
    )(*tensors(p)),
    "three times forward": lambda f, p: func.jvp(
        lambda x: func.jvp(
            lambda x: func.jvp(lambda x: loss(f)(x, *tensors(p)[1:]), (x,), (x,)), (x,), (x * x,)
        ),
        tensors(p)[:1],
        tensors(p, seed=1)[:1],
    ),
    "hessian times vector, forward over reverse": lambda f, p: func.jvp(
        func.grad(loss(f), argnums=(0, 1)), tensors(p), tensors(p, seed=1)
    ),
    "hessian times vector, reverse over forward": lambda f, p: func.grad(
        lambda *a: func.jvp(loss(f), a, tensors(p, seed=1))[1], argnums=(0, 1, 2)
    )(*tensors(p)),
    "linearize": linearized,
    "per-sample gradients": per_sample,
    "per-group gradients": lambda f, p: per_sample(f, p, batch=4),
    "vmap of jvp": lambda f, p: func.vmap(lambda *a: func.jvp(f, a, a))(*tensors(p, 4)),
    "vmap of hessian": lambda f, p: func.vmap(func.hessian(loss(f)), in_dims=(0, None, None))(
        tensors(p, 4, batch=2)[0], *tensors(p)[1:]
    ),
    "vmap of x": mapped(0, None, None),
    "vmap of x, other dims": mapped(1, None, None, out_dims=1),
    "vmap of x, last dim": mapped(2, None, None, out_dims=2),
    "vmap of weight": mapped(None, 0, None),
    "vmap of weight, other dim": mapped(None, 3, None, out_dims=1),
    "vmap of bias": mapped(None, None, 0),
    "vmap of bias, other dim": mapped(None, None, 1, out_dims=2),
    "vmap of x and bias": mapped(1, None, 1),
    "vmap of all": mapped(0, 2, 1),
    "vmap of weight and bias": mapped(None, 1, 0),
    "vmap of vmap, x": mapped_twice((0, None, None), (0, None, None)),
    "vmap of vmap, x then weight": mapped_twice((0, None, None), (None, 0, None)),
    "vmap of vmap, weight then x": mapped_twice((None, 0, 0), (0, None, None)),
    "vmap of vmap, all": mapped_twice((0, 0, 0), (0, 0, 0)),
    "vmap of vmap, weights": mapped_twice((None, 0, 0), (0, 0, 0)),
    "vmap in chunks": chunked,
    "vmap with randomness": random_in_map,
    "vmap without bias": without_bias,
    "jvp of vmap": lambda f, p: func.jvp(func.vmap(f), tensors(p, 4), tensors(p, 4, seed=1)),
    "grad of vmap": lambda f, p: func.grad(
        lambda *a: func.vmap(f)(*a).pow(2).sum(), argnums=(0, 1, 2)
    )(*tensors(p, 4)),
    "functionalize": lambda f, p: func.functionalize(func.grad(loss(f)))(*tensors(p)),
    "functional.jvp": lambda f, p: torch.autograd.functional.jvp(f, tensors(p), tensors(p)),
    "functional.vjp": lambda f, p: torch.autograd.functional.vjp(loss(f), tensors(p)),
    "functional.hvp": lambda f, p: torch.autograd.functional.hvp(loss(f), tensors(p), tensors(p)),
    "functional.vhp": lambda f, p: torch.autograd.functional.vhp(loss(f), tensors(p), tensors(p)),
    "functional.jacobian": lambda f, p: torch.autograd.functional.jacobian(f, tensors(p)),
    "functional.jacobian, vectorized": lambda f, p: torch.autograd.functional.jacobian(
        f, tensors(p), vectorize=True
    ),
    "functional.jacobian, forward": lambda f, p: torch.autograd.functional.jacobian(
        f, tensors(p), vectorize=True, strategy="forward-mode"
    ),
    "functional.hessian": lambda f, p: torch.autograd.functional.hessian(loss(f), tensors(p)),
    "functional.hessian, vectorized": lambda f, p: torch.autograd.functional.hessian(
        loss(f), tensors(p), vectorize=True
    ),
    "functional.hessian, forward": lambda f, p: torch.autograd.functional.hessian(
        loss(f), tensors(p), vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
}


def assert_equal_results(result: Any, expected: Any) -> None:
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transform_equals_that_of_a_dense_product(transform: str, name: str, relu: bool) -> None:
    pattern, run = PATTERNS[name], TRANSFORMS[transform]
    result = run(junction(pattern, relu), pattern)
    expected = run(oracle(pattern, relu), pattern)
    assert_equal_results(result, expected)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("name", PATTERNS)
def test_numerical_derivatives(name: str, relu: bool) -> None:
    pattern = PATTERNS[name]
    used = torch.from_numpy(pattern.sources.copy())[:, :, None, None] >= 0
    inputs = [t.requires_grad_() for t in tensors(pattern)]

    def apply(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        # empty slots have no gradient, so they must not be varied either
        return ops.forward(x, weight * used, bias, pattern, relu)

    ways = {"check_batched_grad": True}
    forward = {"check_forward_ad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(apply, inputs, **ways, **forward)
    assert torch.autograd.gradgradcheck(
        apply, inputs, **ways, check_fwd_over_rev=True, check_rev_over_rev=True
    )


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("name", PATTERNS)
def test_dual_tensors_outside_of_func(name: str, relu: bool, grad: bool) -> None:
    pattern = PATTERNS[name]
    results = []
    for layer in (junction(pattern, relu), oracle(pattern, relu)):
        primals = [t.requires_grad_(grad) for t in tensors(pattern)]
        with torch.set_grad_enabled(grad), forward_ad.dual_level():
            duals = map(forward_ad.make_dual, primals, tensors(pattern, seed=1))
            results.append(forward_ad.unpack_dual(layer(*duals)))
    assert_equal_results(*results)


def test_a_dual_gradient_of_a_plain_output_has_a_tangent() -> None:
    pattern = PATTERNS["varying"]
    results = []
    for layer in (junction(pattern, True), oracle(pattern, True)):
        inputs = [t.requires_grad_() for t in tensors(pattern)]
        # before there is anything to see
        y = layer(*inputs)
        with forward_ad.dual_level():
            grad_y = forward_ad.make_dual(torch.ones_like(y), y.detach().sin())
            grads = torch.autograd.grad(y, inputs, grad_y)
            results.append([tuple(forward_ad.unpack_dual(g)) for g in grads])
    assert_equal_results(*results)


@pytest.mark.parametrize("asked", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_batched_gradients_of_a_plain_output(asked: tuple[int, ...]) -> None:
    pattern = PATTERNS["varying"]
    results = []
    for layer in (junction(pattern, True), oracle(pattern, True)):
        inputs = [t.requires_grad_() for t in tensors(pattern)]
        y = layer(*inputs)
        wanted = [inputs[place] for place in asked]
        each = torch.eye(y.numel(), dtype=y.dtype).view(-1, *y.shape)
        results.append(
            (
                torch.autograd.grad(y, wanted, each, is_grads_batched=True, retain_graph=True),
                func.vmap(lambda g, y=y, w=wanted: torch.autograd.grad(y, w, g, retain_graph=True))(
                    each
                ),
            )
        )
    assert_equal_results(*results)


def perceptron(seed: int = 1) -> SparseMLP:
    torch.manual_seed(seed)
    return SparseMLP((16, 12, 8), density=0.5, seed=1).double()


def dense_twin(model: nn.Module) -> nn.Module:
    """Return the same network with dense layers, their ReLU behind them."""
    if isinstance(model, SparseLinear):
        linear = model.to_dense()
        return nn.Sequential(linear, nn.ReLU()) if model.relu else linear
    if isinstance(model, SparseMLP):
        return nn.Sequential(*map(dense_twin, model.junctions))
    raise TypeError(model)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "layer": lambda: SparseLinear(16, 8, 0.25, dtype=torch.float64),
    "layer of blocks": lambda: SparseLinear(16, 8, 0.5, block=(4, 2), dtype=torch.float64),
    "layer without bias": lambda: SparseLinear(16, 8, 0.25, bias=False, dtype=torch.float64),
    "layer with relu": lambda: SparseLinear(16, 8, 0.25, relu=True, dtype=torch.float64),
    "perceptron": perceptron,
}


@pytest.mark.parametrize("shape", [(16,), (3, 16), (2, 3, 16)], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_modules_equal_their_dense_twins(name: str, shape: tuple[int, ...]) -> None:
    model = LAYERS[name]()
    twin = dense_twin(model)
    x, t = torch.randn(2, *shape, dtype=torch.float64)
    many = torch.randn(5, *shape, dtype=torch.float64)

    def score(x: Tensor, m: nn.Module) -> Tensor:
        y: Tensor = m(x)
        return y.tanh().square().sum()

    for run in (
        lambda m: func.jvp(m, (x,), (t,)),
        lambda m: func.vmap(m)(many),
        lambda m: func.jacrev(m)(x),
        lambda m: func.jacfwd(m)(x),
        lambda m: func.grad(score)(x, m),
        lambda m: func.hessian(score)(x, m),
        lambda m: func.vmap(func.grad(score), in_dims=(0, None))(many, m),
    ):
        assert_equal_results(run(model), run(twin))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_ensembles_of_modules_equal_each_member(name: str, shared: bool) -> None:
    models = [LAYERS[name]() for _ in range(4)]
    parameters, buffers = func.stack_module_state(models)
    x = torch.randn(3, 16, dtype=torch.float64)
    xs = x.expand(4, 3, 16) if shared else torch.randn(4, 3, 16, dtype=torch.float64)

    def call(parameters: Any, buffers: Any, x: Tensor) -> Tensor:
        y: Tensor = func.functional_call(models[0], (parameters, buffers), (x,))
        return y

    y = func.vmap(call, in_dims=(0, 0, None if shared else 0))(
        parameters, buffers, x if shared else xs
    )
    for member, model in enumerate(models):
        assert_equal_results(y[member], dense_twin(model)(xs[member]))
    # gradients of all members at once
    y.square().sum().backward()
    for member, model in enumerate(models):
        twin = model(xs[member]).square().sum()
        grads = torch.autograd.grad(twin, list(model.parameters()))
        for (key, _), grad in zip(model.named_parameters(), grads, strict=True):
            assert_equal_results(parameters[key].grad[member], grad)


def test_per_sample_gradients_of_a_module() -> None:
    model = perceptron()
    x = torch.randn(6, 16, dtype=torch.float64)
    parameters = {key: p.detach() for key, p in model.named_parameters()}

    def score(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        y: Tensor = func.functional_call(model, parameters, (x.unsqueeze(0),))
        return y.square().sum()

    each = func.vmap(func.grad(score), in_dims=(None, 0))(parameters, x)
    for sample in range(len(x)):
        model.zero_grad()
        dense_loss = model(x[sample]).square().sum()
        dense_loss.backward()
        for key, p in model.named_parameters():
            assert_equal_results(each[key][sample], p.grad)


def test_inside_a_transformer() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0, batch_first=True).double()
    sparsify(layer, 0.25, min_size=0)
    twin = nn.TransformerEncoderLayer(16, 2, 32, dropout=0, batch_first=True).double()
    for name in ("linear1", "linear2"):
        setattr(twin, name, getattr(layer, name).to_dense())
    for name in ("self_attn", "norm1", "norm2"):
        setattr(twin, name, getattr(layer, name))
    x, t = torch.randn(2, 2, 5, 16, dtype=torch.float64)
    # torch's fast attention has no forward mode
    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        for run in (
            lambda m: func.jvp(m, (x,), (t,)),
            lambda m: func.grad(lambda x: m(x).square().sum())(x),
            lambda m: func.vmap(m)(torch.stack([x, t])),
        ):
            assert_equal_results(run(layer), run(twin))


@pytest.mark.parametrize("relu", [False, True])
def test_autocast_inside_transforms(relu: bool) -> None:
    pattern = PATTERNS["balanced"]
    arguments = tuple(t.float() for t in tensors(pattern, 4))
    firsts = tuple(t[0] for t in arguments)

    def cast(*tensors: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return ops.linear(*tensors, pattern, relu)

    def call(layer: Layer) -> Any:
        def score(*tensors: Tensor) -> Tensor:
            return func.vmap(layer)(*tensors).float().square().sum()

        return (
            func.vmap(layer)(*arguments),
            func.jvp(layer, firsts, tuple(t[1] for t in arguments)),
            func.grad(score, (0, 1, 2))(*arguments),
        )

    result = call(cast)
    y, tangents, grads = result
    assert {t.dtype for t in (y, *tangents)} == {torch.bfloat16}
    assert {g.dtype for g in grads} == {torch.float32}
    # nn.Linear stays in float32 inside vmap, so this one is compared as numbers
    expected = call(oracle(pattern, relu))
    torch.testing.assert_close(result, expected, rtol=0.05, atol=0.2, check_dtype=False)


COMPILED = {
    "vmap": lambda f: func.vmap(f),
    "vmap of weight": lambda f: func.vmap(f, in_dims=(None, 0, 0)),
    "grad": lambda f: func.grad(loss(f), argnums=(0, 1, 2)),
    "per-sample gradients": lambda f: func.vmap(
        func.grad(loss(f), argnums=(1, 2)), in_dims=(0, None, None)
    ),
    "jvp": lambda f: lambda *a: func.jvp(f, a, tuple(t.sin() for t in a)),
    "vjp": lambda f: lambda *a: func.vjp(f, *a)[1](torch.ones(3, 8).double()),
    "jacrev": lambda f: func.jacrev(f, argnums=(0, 1)),
    "jacfwd": lambda f: func.jacfwd(f, argnums=(0, 1)),
    "hessian": lambda f: func.hessian(loss(f)),
    "vmap of jvp": lambda f: func.vmap(lambda *a: func.jvp(f, a, a)),
}
MAPPED = {
    "vmap": (True, True, True),
    "vmap of weight": (False, True, True),
    "per-sample gradients": (True, False, False),
    "vmap of jvp": (True, True, True),
}


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("transform", COMPILED)
def test_compiled_transforms(transform: str, relu: bool) -> None:
    pattern = PATTERNS["balanced"]
    mapped_arguments = MAPPED.get(transform, (False,) * 3)
    for grad in (False, True):
        arguments = [
            (t if each else t[0]).requires_grad_(grad)
            for t, each in zip(tensors(pattern, 4), mapped_arguments, strict=True)
        ]
        run = COMPILED[transform](junction(pattern, relu))
        expected = COMPILED[transform](oracle(pattern, relu))(*arguments)
        torch._dynamo.reset()
        compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
        assert_equal_results(compiled(*arguments), expected)

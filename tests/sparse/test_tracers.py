"""Whatever records or watches operators sees sparse layers, or refuses them with a text."""

from __future__ import annotations

import copy
import importlib
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from dnc_sparse import SparseLinear, SparseMLP, ops

OPERATORS = torch.ops.dnc_sparse
# torch says so of its own tracer and scripting
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def layer(relu: bool = False) -> SparseLinear:
    torch.manual_seed(0)
    return SparseLinear(32, 16, 0.25, relu=relu)


def network() -> SparseMLP:
    torch.manual_seed(0)
    return SparseMLP((32, 24, 8), density=0.5, seed=1).eval()


def dense_network() -> nn.Module:
    first, second = (j.to_dense() for j in network().junctions)  # type: ignore[operator]
    return nn.Sequential(first, nn.ReLU(), second).eval()


SHAPES = [(5, 32), (2, 3, 32), (32,), (0, 32)]


# torch.jit


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("make", [layer, network])
def test_jit_trace_records_operators(make: Callable[[], nn.Module], grad: bool) -> None:
    model, x = make(), torch.randn(5, 32)
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(model, x)
    assert "dnc_sparse::forward" in str(traced.inlined_graph)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    for other in (
        traced,
        torch.jit.load(file),
        torch.jit.freeze(torch.jit.trace(make().eval(), x)),
    ):
        for batch in (1, 5, 9):
            x = torch.randn(batch, 32)
            assert torch.equal(other(x), model(x))


def test_jit_trace_has_gradients_autocast_and_three_dimensions() -> None:
    model = network()
    x = torch.randn(2, 3, 32)
    traced = torch.jit.trace(model, x)
    grads = []
    for other in (model, traced):
        model.zero_grad()
        other(x).square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(map(torch.equal, *grads))

    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                y: Tensor = self.model(x)
                return y

    assert torch.equal(torch.jit.trace(Cast(), x)(x), Cast()(x))


LOAD = """
import sys, torch, dnc_sparse
x, y = torch.load(sys.argv[2], weights_only=True)
assert torch.equal(torch.jit.load(sys.argv[1])(x), y)
"""


def test_a_trace_runs_in_another_process(tmp_path: Path) -> None:
    model, x = network(), torch.randn(6, 32)
    with torch.no_grad():
        torch.jit.trace(model, torch.randn(2, 32)).save(str(tmp_path / "net.pt"))
        torch.save((x, model(x)), tmp_path / "example.pt")
    files = (str(tmp_path / "net.pt"), str(tmp_path / "example.pt"))
    command = [sys.executable, "-W", "ignore", "-c", LOAD, *files]
    subprocess.run(command, check=True, timeout=60)


@pytest.mark.parametrize("make", [layer, network, lambda: nn.Sequential(nn.ReLU(), layer())])
def test_jit_script_is_refused_and_leaves_the_model_alone(make: Callable[[], nn.Module]) -> None:
    model = make()
    message = (
        r"^torch.jit.script cannot compile SparseLinear; use torch.jit.trace\(model, example\)"
    )
    with pytest.raises(RuntimeError, match=message):
        torch.jit.script(model)
    assert [type(m) for m in model.modules()] == [type(m) for m in make().modules()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [layer, network])
def test_the_legacy_exporter_of_onnx_is_refused(make: Callable[[], nn.Module]) -> None:
    pytest.importorskip("onnx")
    message = r"^torch.onnx.export\(dynamo=False\) has no translation of sparse layers; export with"
    with pytest.raises(RuntimeError, match=message):
        torch.onnx.export(make().eval(), (torch.randn(2, 32),), io.BytesIO(), dynamo=False)


# make_fx and torch.export


@pytest.mark.parametrize("pre_dispatch", [False, True])
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_records_operators(mode: str, pre_dispatch: bool) -> None:
    model = layer(relu=True)

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ops.linear(x, weight, bias, model.pattern, relu=True)

    arguments = (torch.randn(5, 32), model.weight, model.bias)
    graph = make_fx(call, tracing_mode=mode, pre_dispatch=pre_dispatch)(*arguments)
    targets = [node.target for node in graph.graph.nodes]
    assert targets.count(OPERATORS.forward.default) == 1
    assert torch.equal(graph(*arguments), model(arguments[0]))
    if mode == "symbolic":
        more = (torch.randn(9, 32), model.weight, model.bias)
        assert torch.equal(graph(*more), model(more[0]))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_of_per_sample_gradients_has_one_operator_each(mode: str) -> None:
    model = layer()

    def score(weight: Tensor, x: Tensor) -> Tensor:
        return ops.linear(x, weight, None, model.pattern).square().sum()

    each = torch.func.vmap(torch.func.grad(score), in_dims=(None, 0))
    x = torch.randn(5, 32)
    graph = make_fx(each, tracing_mode=mode)(model.weight, x)
    assert graph.code.count("dnc_sparse") == 2
    torch.testing.assert_close(graph(model.weight, x), each(model.weight, x))
    expected = torch.stack([torch.func.grad(score)(model.weight, sample) for sample in x])
    torch.testing.assert_close(graph(model.weight, x), expected)


# torch's own use of its trees
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("shape", [(5, 32), (2, 3, 32)], ids=str)
def test_export(shape: tuple[int, ...], strict: bool) -> None:
    model = network()
    sizes = dict.fromkeys(range(len(shape) - 1), torch.export.Dim.DYNAMIC)
    x = torch.randn(shape)
    program = torch.export.export(model, (x,), dynamic_shapes=(sizes,), strict=strict)
    for form in (program, program.run_decompositions()):
        targets = [node.target for node in form.graph.nodes]
        assert targets.count(OPERATORS.forward.default) == 2
        more = torch.cat([x, x])
        assert torch.equal(form.module()(more), model(more))


# torch.fx


class Leafless(fx.Tracer):
    """A tracer that goes into every module, torch's own too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return False


@pytest.mark.parametrize("tracer", [fx.Tracer, Leafless])
@pytest.mark.parametrize("make", [layer, network, lambda: nn.Sequential(layer(), nn.ReLU())])
def test_symbolic_trace(make: Callable[[], nn.Module], tracer: type[fx.Tracer]) -> None:
    model = make()
    graph = fx.GraphModule(model, tracer().trace(model))
    again = pickle.loads(pickle.dumps(graph))
    for shape in SHAPES:
        x = torch.randn(shape)
        for other in (graph, again, copy.deepcopy(graph), fx.Transformer(graph).transform()):
            assert torch.equal(other(x), model(x))
    x = torch.randn(5, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(graph(x), model(x))
        assert graph(x).dtype == torch.bfloat16
    graph(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    compiled = torch.compile(graph, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))


def test_passes_of_fx() -> None:
    # it scripts something at import, of which torch warns
    optimization = importlib.import_module("torch.fx.experimental.optimization")
    model = nn.Sequential(nn.Linear(32, 32), layer(), nn.Dropout(), nn.Linear(16, 4)).eval()
    x = torch.randn(5, 32)
    assert torch.equal(optimization.fuse(model)(x), model(x))
    assert torch.equal(optimization.remove_dropout(model)(x), model(x))
    torch.testing.assert_close(optimization.optimize_for_inference(model)(x), model(x))


# modes and subclasses


class SeenFunctions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class SeenOperators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def test_a_mode_of_functions_sees_one() -> None:
    model, x = layer(), torch.randn(5, 32)
    with SeenFunctions() as mode:
        y = model(x)
    assert torch.equal(y, model(x))
    assert mode.seen == [ops.keyed_linear]
    with torch.device("cpu"):
        assert torch.equal(model(x), y)


def test_a_mode_of_operators_sees_them_backwards_too() -> None:
    model, x = layer(), torch.randn(5, 32, requires_grad=True)
    before = model(x)
    with SeenOperators() as mode:
        model(x)
        before.backward(torch.ones(5, 16))
    assert OPERATORS.forward.default in mode.seen
    assert OPERATORS.backward.default in mode.seen
    expected = torch.ones(5, 16) @ model.to_dense().weight
    torch.testing.assert_close(x.grad, expected)


class Named(Tensor):
    """A subclass that torch functions keep."""


class Wrapped(Tensor):
    """A subclass without memory, which only operators see."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> Tensor:
        made: Tensor = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)  # type: ignore[attr-defined]
        return made

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        plain = [a.inner if isinstance(a, Wrapped) else a for a in args]
        return cls(func(*plain, **(kwargs or {})))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_subclasses(shape: tuple[int, ...]) -> None:
    model, x = layer(), torch.randn(shape)
    named = model(x.as_subclass(Named))
    assert type(named) is Named
    assert torch.equal(named.as_subclass(Tensor), model(x))
    with torch.no_grad():
        wrapped = model(Wrapped(x))
    assert torch.equal(wrapped.inner, model(x))


@pytest.mark.parametrize("make", [layer, network])
def test_operations_are_counted(make: Callable[[], nn.Module]) -> None:
    model, x = make(), torch.randn(5, 32, requires_grad=True)
    edges = sum(m.n_edges for m in model.modules() if isinstance(m, SparseLinear))
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(x)
    assert forward.get_total_flops() == 2 * edges * 5
    y = model(x)
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    assert backward.get_total_flops() == 2 * 2 * edges * 5
    with FlopCounterMode(display=False) as step:
        model(x.detach().view(1, 5, 32)).sum().backward()
    # the first layer has no gradient to give to its input
    first = next(m for m in model.modules() if isinstance(m, SparseLinear))
    assert step.get_total_flops() == 2 * 5 * (3 * edges - first.n_edges)


def test_operations_of_an_ensemble_are_counted() -> None:
    model = layer()
    weights, x = torch.randn(4, *model.weight.shape), torch.randn(3, 5, 32)
    each = torch.func.vmap(lambda w, x: ops.linear(x, w, None, model.pattern), in_dims=(0, None))
    with FlopCounterMode(display=False) as mode:
        each(weights, x)
    assert mode.get_total_flops() == 2 * model.n_edges * 4 * 15


def test_the_profiler_sees_plain_calls() -> None:
    model, x = layer(), torch.randn(5, 32, requires_grad=True)
    with torch.profiler.profile(record_shapes=True) as profile:
        y = model(x)
        y.sum().backward()
    shapes = {e.key: e.input_shapes for e in profile.key_averages(group_by_input_shape=True)}
    weight = list(model.weight.shape)
    assert shapes["dnc_sparse::forward"] == [[5, 32], weight, [16]]
    assert shapes["dnc_sparse::backward"] == [[5, 16], [5, 32], weight]


# tensors that are more than their memory


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
@pytest.mark.parametrize("middle", [(), (2,)], ids=str)
def test_nested_tensors(layout: torch.layout, middle: tuple[int, ...]) -> None:
    model = layer()
    parts = [torch.randn(n, *middle, 32) for n in (3, 5)]
    x = torch.nested.nested_tensor(parts, layout=layout, requires_grad=True)
    y = model(x)
    assert y.layout == layout
    for result, part in zip(y.unbind(), parts, strict=True):
        assert torch.equal(result, model(part))
    sum(part.sum() for part in y.unbind()).backward()
    expected = model.to_dense().weight.sum(0)
    for grad in x.grad.unbind():
        torch.testing.assert_close(grad, expected.expand_as(grad))


def test_views_that_share_or_negate_memory() -> None:
    model, x = layer(), torch.randn(5, 32)
    dense = model.to_dense()
    negative = torch.randn(5, 32, dtype=torch.complex64).conj().imag
    assert negative.is_neg()
    for view in (
        negative,
        x[:1].expand(5, 32),
        torch.ones(1, 1).expand(5, 32),
        torch.randn(32, 5).T,
        torch.randn(10, 64)[::2, ::2],
        torch._lazy_clone(x),
        torch._efficientzerotensor(5, 32),
    ):
        torch.testing.assert_close(model(view), dense(view.clone()))
    y = model(x.requires_grad_())
    for grad_y in (negative[:, :16], torch.ones(1, 1).expand(5, 16)):
        (grad,) = torch.autograd.grad(y, x, grad_y, retain_graph=True)
        torch.testing.assert_close(grad, grad_y.clone() @ dense.weight)
    zeros = torch._efficientzerotensor(5, 16)
    assert torch.equal(torch.autograd.grad(y, x, zeros)[0], torch.zeros(5, 32))


def test_wrappers_that_outlived_their_transform() -> None:
    model, x = layer(), torch.randn(5, 32)
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x.sum()

    torch.func.grad(keep)(x)
    torch.testing.assert_close(model(kept[0]), model(x))
    functional = torch._to_functional_tensor(x)
    torch.testing.assert_close(torch._from_functional_tensor(model(functional)), model(x))


def test_inference_mode() -> None:
    model = layer()
    with torch.inference_mode():
        x = torch.randn(5, 32)
        y = model(x)
        inside = SparseLinear(32, 16, 0.25)
    with torch.no_grad():
        assert torch.equal(model(x), y)
    torch.testing.assert_close(inside(x.clone()), inside.to_dense()(x.clone()))
    with pytest.raises(RuntimeError, match=r"^Inference tensors cannot be saved for backward"):
        model(x)


def refused() -> dict[str, tuple[Callable[[], Tensor], type[Exception], str]]:
    x = torch.randn(2, 3, 32)
    ordinary = r"^x must be an ordinary tensor, got torch.{}; to_dense\(\) it$"
    floating = r"^x must be floating point, got torch.{}$"
    return {
        "mkldnn": (lambda: x[0].to_mkldnn(), TypeError, ordinary.format("_mkldnn")),
        "mkldnn, three dimensions": (lambda: x.to_mkldnn(), TypeError, ordinary.format("_mkldnn")),
        "sparse": (lambda: x[0].to_sparse(), TypeError, ordinary.format("sparse_coo")),
        "sparse, three dimensions": (
            lambda: x.to_sparse(),
            TypeError,
            ordinary.format("sparse_coo"),
        ),
        "complex": (lambda: x[0].to(torch.complex64), TypeError, floating.format("complex64")),
        "quantized": (
            lambda: torch.quantize_per_tensor(x[0], 0.1, 0, torch.qint8),
            TypeError,
            floating.format("qint8"),
        ),
        "integers": (lambda: x.long(), TypeError, floating.format("int64")),
        "a number": (
            lambda: torch.tensor(1.0),
            ValueError,
            r"^x must be \[batch, 32\] for Pattern\(.*, got \[\]$",
        ),
    }


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("name", refused())
def test_refuses(name: str) -> None:
    make, error, message = refused()[name]
    with pytest.raises(error, match=message):
        layer()(make())


@pytest.mark.parametrize("make", [layer, network])
def test_takes_the_name_that_linear_layers_use(make: Callable[[], nn.Module]) -> None:
    model, x = make(), torch.randn(5, 32)
    assert torch.equal(model(input=x), model(x))


# autograd's own machinery


def checkpointed(model: nn.Module, x: Tensor, reentrant: bool) -> Tensor:
    y: Tensor = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=reentrant)
    return y


def hooked(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        y: Tensor = model(x)
        return y


def offloaded(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autograd.graph.save_on_cpu():
        y: Tensor = model(x)
        return y


STEPS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "hooks on saved tensors": hooked,
    "saved on the CPU": offloaded,
    "checkpoint": lambda m, x: checkpointed(m, x, False),
    "checkpoint, reentrant": lambda m, x: checkpointed(m, x, True),
}


@pytest.mark.parametrize(
    ("unpack", "error", "message"),
    [
        (lambda t: t.half(), TypeError, r"^(x|weight|grad_y) is torch.float(16|32) but "),
        (lambda t: t.to("meta"), RuntimeError, r"^(x|weight|grad_y) is on (meta|cpu) but "),
        (lambda t: t[:1], ValueError, r"^(x|grad_y) has batch 1 but |^(x|weight) must be \["),
    ],
    ids=["dtype", "device", "shape"],
)
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)], ids=str)
def test_hooks_that_give_back_another_tensor(
    unpack: Any, error: type[Exception], message: str, needs: tuple[bool, bool]
) -> None:
    model, x = layer(), torch.randn(5, 32, requires_grad=needs[0])
    model.weight.requires_grad_(needs[1])
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, unpack):
        y = model(x)
    with pytest.raises(error, match=message):
        y.sum().backward()


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("anomalies", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_steps_equal_a_dense_network_s(name: str, anomalies: bool) -> None:
    model, dense = network(), dense_network()
    x = torch.randn(5, 32)
    results = []
    with torch.autograd.set_detect_anomaly(anomalies):
        for other, step in ((model, STEPS[name]), (dense, lambda m, x: m(x))):
            inputs = x.clone().requires_grad_()
            y = step(other, inputs)
            y.square().sum().backward(retain_graph=True)
            once = inputs.grad.clone()
            y.square().sum().backward()
            results.append((y.detach(), once, inputs.grad))
    torch.testing.assert_close(*results)


def test_importing_the_package_imports_no_compiler() -> None:
    # they take seconds, and triton decides about its interpreter when it is imported
    slow = "torch._dynamo", "triton", "sympy", "torch.distributed.tensor", "dnc_sparse.advice"
    program = f"import dnc_sparse, sys; print([name for name in {slow} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert result.stdout.decode().strip() == "[]"

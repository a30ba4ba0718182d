"""Code that reads a layer's weight: found by an example, or explained when the first call fails."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dnc_sparse.nn import SparseLinear, conversion_report, sparsify


class Window(nn.Module):
    """Attention as torchvision's swin has it: the weights of two layers go to a function."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(64, 192)
        self.proj = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return window(x, self.qkv.weight, self.qkv.bias, self.proj.weight)


def window(x: Tensor, qkv: Tensor, bias: Tensor, proj: Tensor) -> Tensor:
    q, k, v = functional.linear(x, qkv, bias).chunk(3, -1)
    return functional.linear(functional.scaled_dot_product_attention(q, k, v), proj)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = Window()
        self.fc = nn.Linear(64, 64)
        self.unused = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        # as T5 does: the dtype is the same for a sparse weight
        y = self.attn(x).to(self.fc.weight.dtype)
        assert isinstance(self.fc.weight, nn.Parameter)
        assert not self.fc.weight.is_cuda
        z: Tensor = self.fc(y.to(self.fc.weight.device))
        return z


class Reading(nn.Module):
    """One layer, whose weight is read by `read` after it was called."""

    def __init__(self, read: Callable[[nn.Linear], Any]) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 64)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x)
        self.read(self.fc)
        return y


READERS: dict[str, Callable[[nn.Linear], Any]] = {
    "linear": lambda m: functional.linear(torch.ones(1, 64), m.weight),
    "matmul": lambda m: torch.ones(1, 64) @ m.weight.t(),
    "einsum": lambda m: torch.einsum("bi,oi->bo", torch.ones(1, 64), m.weight),
    "in a list": lambda m: torch.cat([m.weight, m.weight]),
    "norm": lambda m: m.weight.norm(dim=1),
    "shape": lambda m: torch.ones(m.weight.shape[1]),
    "size": lambda m: m.weight.size(0),
    "numel": lambda m: m.weight.numel(),
    "data": lambda m: m.weight.data,
    "operator": lambda m: 2 * m.weight,
    "index": lambda m: m.weight[0],
    "_parameters": lambda m: functional.linear(torch.ones(1, 64), m._parameters["weight"]),
    "parameters": lambda m: next(m.parameters()) * 2,
    "get_parameter": lambda m: m.get_parameter("weight").t(),
    "state_dict": lambda m: m.state_dict()["weight"].t(),
    "class": lambda m: nn.Linear.forward(m, torch.ones(1, 64)),
    "in place": lambda m: m.weight.mul_(1),
}


def reason(report: Any, name: str) -> str:
    (row,) = [row for row in report.rows if name in row.names]
    return str(row.note)


def test_an_example_finds_the_layers_whose_weight_is_read() -> None:
    model = nn.Sequential(Block())
    report = conversion_report(sparsify(model, 0.25, example=torch.randn(2, 5, 64)))
    read = "left dense: its weight is read by Window.forward (linear)"
    assert reason(report, "0.attn.qkv") == reason(report, "0.attn.proj") == read
    assert [row.names[0] for row in report.replaced] == ["0.fc", "0.unused"]
    assert reason(report, "0.unused").endswith("; never called on the example")
    assert not reason(report, "0.fc").endswith("; never called on the example")
    assert model(torch.randn(2, 5, 64)).shape == (2, 5, 64)
    assert type(model[0].attn.qkv) is nn.Linear
    assert set(vars(model[0].attn.qkv)) == set(vars(nn.Linear(1, 1)))


@pytest.mark.filterwarnings("ignore:sparsify replaced no layer")
@pytest.mark.parametrize("name", READERS)
def test_each_way_of_reading_is_seen(name: str) -> None:
    model = Reading(READERS[name])
    weight = model.fc.weight.detach().clone()
    report = conversion_report(sparsify(model, 0.25, example=torch.ones(1, 64)))
    assert reason(report, "fc").startswith("left dense: its weight is read by ")
    assert torch.equal(model.fc.weight, weight)
    assert type(model.fc.weight) is nn.Parameter


@pytest.mark.parametrize(
    "read",
    [
        lambda m: m.weight.dtype,
        lambda m: torch.zeros(1, dtype=m.weight.dtype, device=m.weight.device),
        lambda m: torch.is_floating_point(m.weight) and m.weight.is_floating_point(),
        lambda m: m.weight.requires_grad,
        lambda m: next(m.parameters()).dtype,
        lambda m: m.forward(torch.ones(1, 64)),
        lambda m: m.weight.grad is None,
        lambda m: m.bias + 1,
        lambda m: (m.in_features, m.out_features),
        lambda m: isinstance(m.weight, Tensor),
    ],
)
def test_harmless_reading_is_none(read: Callable[[nn.Linear], Any]) -> None:
    assert conversion_report(sparsify(Reading(read), 0.25, example=torch.ones(1, 64))).replaced


def test_an_example_is_positional_by_name_or_alone() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 64)
            self.calls: list[tuple[float, float]] = []

        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            self.calls.append((float(x.sum()), 0.0 if y is None else float(y.sum())))
            z: Tensor = self.fc(x)
            return z

    one, two = torch.ones(1, 64), 2 * torch.ones(1, 64)
    for example, expected in (
        (one, (64, 0)),
        ((two, one), (128, 64)),
        ({"y": one, "x": two}, (128, 64)),
        ([one], None),
    ):
        model = Two()
        if expected is None:
            with pytest.raises(AttributeError):
                sparsify(model, 0.25, example=example)
            continue
        sparsify(model, 0.25, example=example)
        assert model.calls == [expected, expected]


def test_the_run_leaves_no_trace() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(64)
            self.fc = nn.Linear(64, 64)
            self.register_buffer("count", torch.zeros(()))
            self.register_buffer("cache", None)

        def forward(self, x: Tensor) -> Tensor:
            self.count = self.count + random.random() + np.random.rand()
            self.cache = x
            z: Tensor = functional.dropout(self.fc(self.norm(x)), 0.5)
            return z

    model = Noisy()
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    count = model.count
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    sparsify(model, 0.25, example=torch.randn(8, 64) + 3, keep_weights=True)
    after = (torch.rand(3).tolist(), random.random(), np.random.rand())
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    SparseLinear(64, 64, 0.25)
    torch.randn(8, 64)
    assert {n: b for n, b in model.named_buffers() if "_extra_state" not in n}.keys() == {*buffers}
    assert all(torch.equal(model.get_buffer(name), b) for name, b in buffers.items())
    assert model.count is count
    assert after[1:] == (random.random(), np.random.rand())
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_an_error_on_the_example_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(64, 64))
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2 shapes cannot be"):
        sparsify(model, 0.25, example=torch.ones(2, 63))
    assert type(model[0]) is nn.Linear
    assert "_watch" not in vars(model[0])


def test_a_model_that_fails_once_converted_is_put_back() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 64)

        def forward(self, x: Tensor) -> Tensor:
            if not isinstance(self.fc, nn.Linear):
                raise TypeError("no linear layer")
            z: Tensor = self.fc(x)
            return z

    text = "^the model runs on the example while dense but not after its conversion, which was un"

    class Swapping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 64)

        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = torch.func.functional_call(self.fc, {"weight": torch.ones(64, 64)}, (x,))
            return z

    with pytest.raises(RuntimeError, match=text + "done: weight must be .* name in skip= the"):
        sparsify(Swapping(), 0.25, example=torch.ones(2, 64))
    model = Picky()
    fc = model.fc
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(RuntimeError, match=text + "done: no linear layer; name in skip= the"):
        sparsify(model, 0.25, example=torch.ones(2, 64), optimizer=optimizer)
    assert model.fc is fc
    assert optimizer.param_groups[0]["params"][0] is fc.weight


def test_torchs_encoder_needs_no_layer_left_dense_for_its_fused_kernel() -> None:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
    report = conversion_report(sparsify(layer, 0.25, example=torch.randn(2, 3, 64)))
    assert [row.names[0] for row in report.replaced] == ["linear1", "linear2"]
    dense = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
    with pytest.warns(UserWarning, match="^sparsify replaced no layer"):
        sparsify(dense, 0.25, skip=["*"], example=torch.randn(2, 3, 64))
    assert dense.activation_relu_or_gelu == 1


HINT = (
    r"\n(Window|window|Block)\S* reads the weight of '{}', which sparsify made a SparseLinear: its "
    r"shape \[192, 16, 1, 1\] is \[rows, slots, bo, bi\], not \[n_out, n_in\]. "
    r"sparsify\(model, ..., example=\(inputs,\)\) leaves such layers dense, as does skip=\['{}'\]$"
)


def test_without_an_example_the_first_error_names_the_layer() -> None:
    model = nn.Sequential(nn.Sequential(Block()))
    sparsify(model, 0.25, block=1)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=HINT.format("0.0.attn.qkv", "0.0.attn.qkv")):
            model(torch.randn(2, 5, 64))
    # a part called by itself
    with pytest.raises(RuntimeError, match=HINT.format("0.0.attn.qkv", "0.0.attn.qkv")):
        model[0][0].attn(torch.randn(2, 5, 64))
    # as the text says
    again = nn.Sequential(nn.Sequential(Block()))
    sparsify(again, 0.25, block=1, skip=["0.0.attn.qkv", "*.proj"])
    assert again(torch.randn(2, 5, 64)).shape == (2, 5, 64)


def test_a_function_that_reads_the_weight_of_its_argument_is_named() -> None:
    model = Reading(READERS["linear"])
    sparsify(model, 0.25)
    with pytest.raises(Exception, match=r"<lambda> reads the weight of 'fc', which sparsify made"):
        model(torch.ones(1, 64))


def test_a_weight_handed_out_by_a_module_around_it_is_named() -> None:
    class Delegating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 64)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.fc, name) if name == "weight" else super().__getattr__(name)

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(x, self.weight)

    model = Delegating()
    sparsify(model, 0.25)
    with pytest.raises(RuntimeError, match=r"\n\S*forward reads the weight of 'fc', which"):
        model(torch.ones(1, 64))
    with pytest.warns(UserWarning, match=r"its weight is read by \S*Delegating.forward \(linear"):
        sparsify(Delegating(), 0.25, example=torch.ones(1, 64))


def test_errors_of_another_kind_keep_their_text() -> None:
    model = nn.Sequential(Block())
    sparsify(model, 0.25, skip=["*.attn"])

    def fail(module: nn.Module, args: Any) -> None:
        raise KeyError("other")

    handle = model[0].fc.register_forward_pre_hook(fail)
    with pytest.raises(KeyError) as caught:
        model(torch.randn(2, 5, 64))
    assert caught.value.args == ("other",)
    assert not hasattr(caught.value, "__notes__")
    handle.remove()
    model(torch.randn(2, 5, 64))


def test_an_error_that_is_handled_around_the_call_is_no_failure() -> None:
    model = nn.Sequential(nn.Linear(64, 64))
    sparsify(model, 0.25)
    error = ValueError("before")
    try:
        raise error
    except ValueError:
        model(torch.ones(1, 64))
    assert error.args == ("before",)
    assert not model._forward_hooks


def test_weights_read_by_index_of_a_list_are_named() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(64, 64) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            for expert in self.experts:
                x = functional.linear(x, expert.weight)
            return x

    model = Experts()
    sparsify(model, 0.25)
    with pytest.raises(RuntimeError, match=re.escape("forward reads the weight of 'experts.0'")):
        model(torch.ones(2, 64))
    model = Experts()
    with pytest.warns(UserWarning, match=r"^sparsify replaced no layer: 'experts.0' left dense"):
        sparsify(model, 0.25, example=torch.ones(2, 64))
    assert model(torch.ones(2, 64)).shape == (2, 64)


def test_a_pruned_model_runs_on_its_example() -> None:
    model = nn.Sequential(nn.Linear(64, 64), Reading(READERS["matmul"]))
    for layer in (model[0], model[1].fc):
        nn.utils.prune.l1_unstructured(layer, "weight", 0.8)
    x = torch.randn(3, 64)
    expected = model(x)
    report = conversion_report(sparsify(model, pattern="nonzero", example=x))
    assert [row.replaced for row in report.rows] == [True, False]
    assert reason(report, "1.fc").startswith("left dense: its weight is read by ")
    torch.testing.assert_close(model(x), expected)

"""`advise`: what it measures of a model, what it predicts from that, and what it refuses."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dnc_sparse import SparseLinear, advise, sparsify
from dnc_sparse.advice import Advice, Plan, timing
from dnc_sparse.advice.observe import Call, calls_of
from dnc_sparse.advice.report import LayerAdvice, Option

MIB = 2**20


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Say which times are measured; what is timed runs once. Returns how many were timed each."""

    def install(*answers: Sequence[float]) -> list[int]:
        left, counts = list(answers), []

        def interleaved(runs: Sequence[Callable[[], object]], *_: Any, **__: Any) -> list[float]:
            for run in runs:
                run()
            counts.append(len(runs))
            return list(left.pop(0))

        monkeypatch.setattr(timing, "interleaved", interleaved)
        return counts

    return install


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run be timed once, as 1 s dense layers and 0.5 s anything else."""

    def interleaved(runs: Sequence[Callable[[], object]], *_: Any, **__: Any) -> list[float]:
        for run in runs:
            run()
        return [10.0, 0.0, 0.0] + [1.0, 0.5] * ((len(runs) - 3) // 2)

    monkeypatch.setattr(timing, "interleaved", interleaved)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.Linear(64, 10))


def verdicts(advice: Advice, plan: int = 0) -> dict[str, str]:
    return {layer.names[0]: layer.verdict(plan) for layer in advice.layers}


X = torch.randn(32, 64)

# --- arithmetic


def test_the_prediction_is_the_step_less_what_the_layers_gain(
    clock: Callable[..., list[int]],
) -> None:
    # step, optimiser as it is and at its least, then dense and sparse of each layer
    counts = clock([100e-3, 8e-3, 2e-3, 40e-3, 10e-3, 30e-3, 40e-3])
    advice = advise(network(), X, density=1 / 8, block=8)
    assert counts == [7]
    assert advice.step_s == 100e-3
    # both layers have 8192 weights, of which 1024 stay: 14336 fewer, for 6 ms of the optimiser
    rate = 6e-3 / 14336
    first, second, last = advice.layers
    assert first.seconds == pytest.approx(40e-3 + 8192 * rate)
    assert first.options[0].seconds == pytest.approx(10e-3 + 1024 * rate)
    assert first.options[0].weights == 1024
    assert first.gains(0)
    assert not second.gains(0)
    assert last.seconds is None
    assert verdicts(advice) == {
        "0": "gains 4.2x",
        "2": "slower: keep dense",
        "3": "cannot: block 8x8 does not divide it",
    }
    (plan,) = advice.plans
    assert plan.step_s == pytest.approx(100e-3 - (30e-3 + 7168 * rate))
    assert plan.replaced == ("0",)
    assert plan.call == 'model = sparsify(model, density=0.125, block=8, skip=["2"])'
    weights = 64 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    assert advice.parameters == weights
    assert plan.parameters == weights - 7168
    # float32, with the two moments of Adam
    assert advice.memory_mib == pytest.approx(3 * 4 * weights / MIB)
    assert plan.memory_mib == pytest.approx(3 * 4 * (weights - 7168) / MIB)


def test_a_column_for_each_density(clock: Callable[..., list[int]]) -> None:
    clock([10.0, 0, 0, *(4.0, 3.0, 1.0), *(4.0, 5.0, 3.9)])
    advice = advise(network(), X, density=(1 / 2, 1 / 8), block=8)
    assert [plan.step_s for plan in advice.plans] == [9.0, 7.0]
    assert [plan.skip for plan in advice.plans] == [("2",), ("2",)]
    assert verdicts(advice, 0)["2"] == "slower: keep dense"
    assert verdicts(advice, 1)["2"] == "no gain: keep dense"


def test_by_default_each_layer_has_a_block_of_its_own(clock: Callable[..., list[int]]) -> None:
    clock([10.0, 0, 0, *(4.0, 3.0), *(4.0, 2.0)])
    advice = advise(network(), X)
    assert advice.plans[0].step_s == 7.0
    assert advice.plans[0].call == "model = sparsify(model, density=0.125)"
    assert verdicts(advice)["3"].startswith("cannot: 640 weights")
    text = str(advice)
    assert "0.125, us" in text
    assert "\ndensity 0.125: a step of 7,000 ms expected" in text


def test_no_layer_gains(clock: Callable[..., list[int]]) -> None:
    clock([10.0, 0, 0, 1.0, 2.0, 1.0, 0.99])
    advice = advise(network(), X, block=8)
    assert advice.plans[0].call is None
    assert advice.plans[0].step_s == 10.0
    assert "density 0.125 8x8: no layer gains; keep the model dense" in str(advice)


def test_equal_layers_are_timed_once_and_counted_twice(clock: Callable[..., list[int]]) -> None:
    body = [nn.Linear(64, 64) for _ in range(3)]
    counts = clock([10.0, 0, 0, 2.0, 1.0])
    # the first needs no gradient of its input, and is a case of its own
    x = X.clone().requires_grad_()
    advice = advise(nn.Sequential(*body), x, block=8)
    assert counts == [5]
    assert advice.plans[0].step_s == 7.0
    assert "* (3)  64 -> 64" in str(advice)


def test_a_layer_used_twice_counts_twice(clock: Callable[..., list[int]]) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = self.same = nn.Linear(64, 64)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.same(self.one(x)[:8])
            return result

    clock([10.0, 0, 0, *(2.0, 1.5), *(1.0, 0.5)])
    advice = advise(Twice(), X, block=8)
    (layer,) = advice.layers
    assert layer.names == ("one", "same")
    assert (layer.calls, layer.samples) == (2, 40)
    assert layer.seconds == 3.0
    assert layer.options[0].seconds == 2.0
    assert advice.plans[0].step_s == 9.0


def test_layers_that_gain_are_not_under_a_glob(clock: Callable[..., list[int]]) -> None:
    widths = [(64, 64), (64, 128), (128, 64), (64, 128)]
    model = nn.Sequential(nn.Sequential(*(nn.Linear(*width) for width in widths)))
    x = X.clone().requires_grad_()
    # those of 64 -> 128 are slower
    clock([10.0, 0, 0, *(2.0, 1.0), *(1.0, 2.0), *(2.0, 1.0)])
    assert advise(model, x, block=8).plans[0].skip == ("0.1", "0.3")
    clock([10.0, 0, 0, *(2.0, 1.0), *(1.0, 2.0), *(1.0, 2.0)])
    assert advise(nn.Sequential(model, nn.Linear(128, 4)), x, block=8).plans[0].skip == (
        "0.0.1",
        "0.0.2",
        "0.0.3",
    )
    clock([10.0, 0, 0, *(2.0, 1.0), *(1.0, 2.0)])
    assert advise(Branches(), x, block=8).plans[0].skip == ("body.*",)


class Branches(nn.Module):
    """A layer, and equal ones that all read its output."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.body = nn.ModuleList(nn.Linear(64, 128) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.stack([layer(x) for layer in self.body])


def test_the_measured_step_is_told(clock: Callable[..., list[int]]) -> None:
    clock([10.0, 0, 0, *(4.0, 1.0), *(4.0, 1.0)], [10.5, 4.2])
    (plan,) = (advice := advise(network(), X, block=8, check=True)).plans
    assert (plan.measured_before_s, plan.measured_s) == (10.5, 4.2)
    assert "measured: 10,500 ms before, 4,200 ms after" in str(advice)


# --- what is seen of a step


def test_calls_of_layers() -> None:
    model = network()
    calls = calls_of({"0": model[0], "2": model[2]}, lambda: model(X).sum().backward())
    shared: dict[str, Any] = {"dtype": torch.float32, "device": X.device, "autocast": None}
    assert calls["0"] == {Call((32, 64), (64, 1), **shared, backward=True, grad_input=False): 1}
    assert calls["2"] == {Call((32, 128), (128, 1), **shared, backward=True, grad_input=True): 1}
    with torch.no_grad():
        model.zero_grad()
        calls = calls_of({"2": model[2]}, lambda: model(X.view(2, 16, 64)))
    (call,) = calls["2"]
    assert (call.backward, call.grad_input, call.samples) == (False, False, 32)


def test_calls_of_nested_sequences() -> None:
    layer = nn.Linear(64, 64)
    x = torch.nested.nested_tensor([torch.randn(3, 64), torch.randn(5, 64)], layout=torch.jagged)
    calls = calls_of({"": layer}, lambda: layer(x).values().sum().backward())
    assert [call.shape for call in calls[""]] == [(8, 64)]


def test_calls_under_autocast() -> None:
    model = network()
    with torch.autocast("cpu", torch.bfloat16):
        calls = calls_of({"0": model[0]}, lambda: model(X).sum().backward())
    assert next(iter(calls["0"])).autocast == torch.bfloat16


@pytest.mark.usefixtures("quick")
def test_frozen_layers_are_timed_without_their_gradients() -> None:
    model = network()
    model[0].requires_grad_(False)
    model[2].weight.requires_grad_(False)
    advice = advise(model, X, block=8)
    assert verdicts(advice)["0"] == "gains 2.0x"
    # no state of the optimiser is saved, as it has none for these weights
    removed = 2 * 7168 * 4
    assert advice.memory_mib - advice.plans[0].memory_mib == pytest.approx(removed / MIB)
    assert model[2].weight.grad is None


class Half(nn.Module):
    """A model of which one layer is never called, and the weight of another read."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle, self.read = (nn.Linear(64, 64) for _ in range(3))

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"n": 3, "out": nn.functional.linear(self.used(x), self.read.weight)}


@pytest.mark.usefixtures("quick")
def test_layers_that_are_not_called_or_read_stay_dense() -> None:
    advice = advise(Half(), X, block=8)
    assert verdicts(advice) == {
        "used": "gains 2.0x",
        "idle": "not called: keep dense",
        "read": "cannot: its weight is read by Half.forward (linear)",
    }
    assert advice.plans[0].skip == ("idle", "read")
    model = Half()
    sparsify(model, density=1 / 8, block=8, skip=advice.plans[0].skip)
    assert isinstance(model.used, SparseLinear)
    assert isinstance(model.idle, nn.Linear)


@pytest.mark.usefixtures("quick")
def test_sparse_small_and_skipped_layers() -> None:
    model = nn.Sequential(
        SparseLinear(64, 64, density=1 / 4), nn.Linear(64, 8), nn.Linear(8, 128), nn.Linear(128, 64)
    )
    assert verdicts(advise(model, X, block=8, skip="2")) == {
        "0": "cannot: sparse already",
        "1": "cannot: 512 weights, fewer than min_size=1,024",
        "2": "cannot: skipped, as asked",
        "3": "gains 2.0x",
    }


@pytest.mark.usefixtures("quick")
def test_layers_that_could_only_be_full_stay_dense() -> None:
    model = nn.Sequential(nn.Linear(8, 256), nn.Linear(256, 64))
    advice = advise(model, torch.randn(4, 8), block=8)
    assert verdicts(advice)["0"] == "cannot: its density nearest to 0.125 is 1"
    assert advice.plans[0].skip == ()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    advice = advise(network().to(dtype), X.to(dtype), block=8)
    assert advice.plans[0].replaced == ("0", "2")
    weights = sum(p.numel() for p in network().parameters())
    assert advice.memory_mib == pytest.approx(3 * dtype.itemsize * weights / MIB)


@pytest.mark.usefixtures("quick")
def test_inputs_in_any_layout_and_number() -> None:
    for x in (
        torch.randn(64, 32).T,
        torch.randn(64).expand(32, 64),
        torch.randn(2, 64, 16).transpose(1, 2),
        torch.randn(200).unfold(0, 64, 2),
        torch.nested.nested_tensor([torch.randn(3, 64), torch.randn(5, 64)], layout=torch.jagged),
        torch.randn(0, 64),
        torch.randn(64),
    ):
        assert advise(network(), x, block=8).plans[0].replaced == ("0", "2")
    model = network()
    with torch.inference_mode():
        assert advise(model, x, block=8).plans[0].replaced == ("0", "2")
    with torch.no_grad():
        assert advise(model, x, block=8).plans[0].replaced == ("0", "2")


@pytest.mark.usefixtures("quick")
def test_examples_by_name_and_losses() -> None:
    class Loss(dict[str, Any]):
        loss: Tensor | None = None

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, *, x: Tensor, y: Tensor) -> Loss:
            output = Loss(other=self.head(x))
            output.loss = (self.body(x) - y).square().mean()
            return output

    advice = advise(Named(), {"x": X, "y": X}, block=8)
    # the head is called, but nothing is learnt by it
    assert [layer.calls for layer in advice.layers] == [1, 1]


@pytest.mark.usefixtures("quick")
def test_a_step_and_an_optimiser_of_one_s_own() -> None:
    seen = []

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        seen.append((model.training, type(optimizer)))
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()

    def sgd(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e-9)

    model = network().eval()
    advice = advise(model, step=step, optimizer=sgd, block=8)
    assert seen == [(True, torch.optim.SGD)] * 2
    assert not model.training
    # plain SGD has no state
    assert advice.memory_mib == pytest.approx(4 * advice.parameters / MIB)


# --- the model stays as it is


def test_nothing_of_the_model_changes() -> None:
    class Drawing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + random.random() + float(np.random.rand())

    model = nn.Sequential(
        nn.Linear(64, 64), nn.BatchNorm1d(64), Drawing(), nn.Dropout(), nn.Linear(64, 64)
    )
    model[1].eval()
    model(X).sum().backward()
    twin = copy.deepcopy(model)
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    parameters, threads = [id(p) for p in model.parameters()], torch.get_num_threads()
    modes = [module.training for module in model.modules()]
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    advise(model, X, block=8, threads=1, budget_s=0)
    assert [id(p) for p in model.parameters()] == parameters
    assert all(torch.equal(v, twin.state_dict()[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), grads, strict=True))
    assert [module.training for module in model.modules()] == modes
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert [type(m) for m in model.modules()] == [type(m) for m in twin.modules()]
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.get_num_threads() == threads


def test_a_real_model_from_end_to_end(tmp_path: Path) -> None:
    layer = nn.TransformerEncoderLayer(64, 2, 256, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    rounds: list[tuple[int, int]] = []
    advice = advise(
        model,
        torch.randn(4, 8, 64),
        density=[1 / 2, 1 / 8],
        threads=1,
        check=True,
        budget_s=0,
        progress=lambda *done: rounds.append(done),
    )
    assert rounds == [(i, 17) for i in range(1, 8)]
    assert verdicts(advice)["layers.1.self_attn.out_proj"] == (
        "cannot: nn.MultiheadAttention reads its weight directly"
    )
    assert [layer.samples for layer in advice.layers] == [0, 32, 32] * 2
    assert all(0 < plan.step_s <= advice.step_s for plan in advice.plans)
    assert all((plan.measured_s is None) == (plan.call is None) for plan in advice.plans)
    advice.to_json(tmp_path / "advice.json")
    record = json.loads((tmp_path / "advice.json").read_text())
    assert record["step_s"] == advice.step_s
    assert record["machine"]["threads"] == 1
    assert record["layers"][0]["verdicts"][0].startswith("cannot: nn.Multihead")
    assert [plan["call"] for plan in record["plans"]] == [plan.call for plan in advice.plans]
    assert "layers.*.linear1 (2)" in str(advice)
    assert str(advice) == repr(advice)


def test_the_advised_line_does_what_is_advised() -> None:
    model = network()
    advice = Advice(
        (
            LayerAdvice(("0",), 64, 128, 1, 32, 4.0, (Option(1 / 8, 1024, 1.0),)),
            LayerAdvice(("2",), 128, 64, 1, 32, 4.0, (Option(1 / 8, 1024, 5.0),)),
        ),
        (Plan(1 / 8, (8, 8), ("0",), ("2",), 7.0, 1000, 0.5),),
        *(10.0, 2000, 1.0),
    )
    line = advice.plans[0].call
    assert line is not None
    exec(line.removeprefix("model = "), {"sparsify": sparsify, "model": model})
    assert isinstance(model[0], SparseLinear)
    assert model[0].pattern.block == (8, 8)
    assert isinstance(model[2], nn.Linear)


def test_the_text() -> None:
    advice = Advice(
        (LayerAdvice(("fc",), 64, 128, 1, 32, 4e-3, (Option(1 / 8, 1024, 1e-3),)),),
        (Plan(1 / 8, (8, 8), ("fc",), (), 7e-3, 1000, 0.5),),
        *(10e-3, 2000, 1.0),
        machine={"processor": "P", "threads": 2},
    )
    assert str(advice) == (
        "layer  inputs -> outputs  samples  dense, us  0.125 8x8, us  verdict\n"
        "fc     64 -> 128               32      4,000          1,000  gains 4.0x\n"
        "\n"
        "times of a layer: forward, backward and its share of the optimiser in a step "
        "(P, 2 threads)\n"
        "a training step takes 10 ms now; 2,000 parameters, 1.0 MiB with the optimiser's state\n"
        "\n"
        "density 0.125 8x8: a step of 7 ms expected, 1.43 times as fast; "
        "1,000 parameters, 0.5 MiB\n"
        "    model = sparsify(model, density=0.125, block=8)\n"
        "\n"
        "accuracy was not measured: train both, as `dnc-sparse front` and `dnc-sparse compare` do"
    )


@pytest.mark.usefixtures("quick")
def test_a_model_without_linear_layers() -> None:
    advice = advise(nn.Sequential(nn.Conv1d(1, 2, 3)), torch.randn(2, 1, 8))
    assert advice.layers == ()
    assert str(advice).startswith("the model has no linear layer: there is nothing to make sparse")


# --- refusals

REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no model": (lambda: advise(3, X), TypeError, "advise takes a model, an nn.Module; got a int"),
    "a layer": (
        lambda: advise(nn.Linear(64, 64), X),
        ValueError,
        "the model is itself a Linear, which sparsify cannot replace in place; put it into",
    ),
    "a sparse layer": (
        lambda: advise(SparseLinear(64, 64, density=0.5), X),
        ValueError,
        "the model is itself a SparseLinear, which sparsify cannot replace in place; put it into",
    ),
    "compiled": (
        lambda: advise(torch.compile(network(), backend="eager"), X),
        RuntimeError,
        "the model is wrapped (OptimizedModule), and torch.compile may have traced the dense "
        "layers; advise first, wrap after",
    ),
    "averaged": (
        lambda: advise(torch.optim.swa_utils.AveragedModel(network()), X),
        RuntimeError,
        "the model is wrapped (AveragedModel), and it averages a copy; the model that is trained "
        "would stay dense; advise first, wrap after",
    ),
    "meta": (
        lambda: advise(network().to("meta"), X),
        ValueError,
        "'0.weight' lies on the meta device, which computes nothing that could be timed; build the",
    ),
    "lazy": (
        lambda: advise(nn.Sequential(nn.LazyLinear(64)), X),
        ValueError,
        "'0.weight' is lazy: it has no size before the model's first call; call the model once on",
    ),
    "empty": (
        lambda: advise(nn.Sequential(), X),
        ValueError,
        "the model has no parameter that is trained (requires_grad), so there is no training step",
    ),
    "frozen": (
        lambda: advise(network().requires_grad_(False), X),
        ValueError,
        "the model has no parameter that is trained (requires_grad), so there is no training step",
    ),
    "no example": (
        lambda: advise(network()),
        ValueError,
        "advise runs the model: give an example (a tuple of arguments, a mapping of keyword",
    ),
    "example of other sizes": (
        lambda: advise(network(), torch.randn(3, 5)),
        RuntimeError,
        "the model does not run on the example (RuntimeError: mat1 and mat2 shapes cannot be mult",
    ),
    "other keywords": (
        lambda: advise(network(), {"z": X}),
        RuntimeError,
        "the model does not run on the example (TypeError: Sequential.forward() got an unexpected",
    ),
    "nothing to train by": (
        lambda: advise(nn.Sequential(network(), Counting()), X),
        ValueError,
        "the model's output on the example, a Tensor, has no floating tensor that depends on its",
    ),
    "density of a text": (
        lambda: advise(network(), X, density="abc"),
        TypeError,
        "density must be a number in (0, 1], such as 0.25; got 'abc' (str)",
    ),
    "one density of several": (
        lambda: advise(network(), X, density=(0.5, 2)),
        ValueError,
        "density must lie in (0, 1], got 2",
    ),
    "no density": (
        lambda: advise(network(), X, density=()),
        ValueError,
        "give at least one density, such as 0.125",
    ),
    "threads": (
        lambda: advise(network(), X, threads=0),
        ValueError,
        "threads must be at least 1, got 0",
    ),
    "block": (
        lambda: advise(network(), X, block=0),
        ValueError,
        "block 0x0 must have sides of at least 1",
    ),
    "skip": (
        lambda: advise(network(), X, skip="7"),
        ValueError,
        "skip names no linear layer: '7'; linear layers: 0, 2, 3",
    ),
    "a copy that calls the model": (
        lambda: advise(held_by_a_closure(), X),
        RuntimeError,
        "a copy of the model calls a layer of the model itself, '0', so that training the copy "
        "would change the model",
    ),
    "no copy": (
        lambda: advise(with_history(), X),
        RuntimeError,
        "the model cannot be copied (RuntimeError: Only Tensors created explicitly by the user",
    ),
}


def held_by_a_closure() -> nn.Module:
    model = network()
    model.forward = lambda x: model[2](model[0](x))
    return model


class Counting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(-1)


def with_history() -> nn.Module:
    model = network()
    model.kept = model(X)
    return model


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    call, kind, message = REFUSED[case]
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        call()


def test_ddp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DistributedDataParallel.__new__(DistributedDataParallel)
    nn.Module.__init__(model)
    with pytest.raises(RuntimeError, match=r"^the model is wrapped \(DistributedDataParallel\)"):
        advise(model, X)


def test_an_unknown_name_of_the_package() -> None:
    import dnc_sparse

    with pytest.raises(AttributeError, match=r"^module 'dnc_sparse' has no attribute 'advize'"):
        dnc_sparse.advize  # noqa: B018

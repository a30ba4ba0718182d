"""sparsify comes before wrappers: what was wrapped, compiled or distributed is refused."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torchvision_ops import declare

from dnc_sparse.nn import conversion_report, densify, sparsify, sparsify_like

# transformers imports torchvision where it is installed
declare()


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone; that of another library's making, if it has one."""
    if dist.is_initialized():
        yield
        return
    file = tmp_path / "store"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def compiled_forward(model: nn.Module) -> nn.Module:
    model.forward = torch.compile(model.forward, backend="eager")  # type: ignore[method-assign]
    return model


def graphed(model: nn.Module) -> nn.Module:
    def make_graphed_callables() -> Callable[..., Tensor]:
        return lambda x: x

    model.forward = make_graphed_callables()  # type: ignore[method-assign]
    return model


WRAPPERS: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "DataParallel": (DataParallel, r"is wrapped \(DataParallel\), and its replicas follow"),
    "compile": (compiled, r"is wrapped \(OptimizedModule\), and torch.compile may have"),
    "AveragedModel": (AveragedModel, r"is wrapped \(AveragedModel\), and it averages a copy"),
    "compile in place": (compiled_in_place, r"is compiled in place \(module.compile\(\)\)"),
    "compiled forward": (compiled_forward, r"has a compiled forward \(torch.compile\(module.fo"),
    "graphed": (graphed, "is captured as a CUDA graph"),
}


def refused(model: nn.Module, text: str) -> None:
    """Each conversion refuses the model, and changes nothing."""
    before = [type(module) for module in model.modules()]
    with pytest.raises(RuntimeError, match=f"^{text}.*; sparsify first, wrap after$"):
        sparsify(model, 0.25)
    with pytest.raises(RuntimeError, match=f"^{text}.*; densify first, wrap after$"):
        densify(model)
    with pytest.raises(RuntimeError, match=f"^{text}.*; sparsify_like first, wrap after$"):
        sparsify_like(model, {})
    assert [type(module) for module in model.modules()] == before


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_model_is_refused(name: str) -> None:
    wrap, text = WRAPPERS[name]
    refused(wrap(network()), f"the model {text}")


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_part_is_refused(name: str) -> None:
    wrap, text = WRAPPERS[name]
    model = nn.Sequential(nn.Linear(64, 64), wrap(network()))
    refused(model, f"'1', a part of the model, {text}")


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_torchscript_is_refused() -> None:
    refused(torch.jit.script(network()), r"the model is wrapped \(ScriptModule\), and TorchScript")
    refused(
        nn.Sequential(torch.jit.trace(network(), torch.ones(1, 64))),
        r"'0', a part of the model, is wrapped \(ScriptModule\)",
    )


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.usefixtures("group")
def test_distributed_models_are_refused() -> None:
    refused(
        DistributedDataParallel(network()),
        r"the model is wrapped \(DistributedDataParallel\), and its reducer",
    )
    sharded = network()
    fully_shard(sharded)
    refused(sharded, r"the model is wrapped \(FSDPModule\), and fully_shard has sharded")
    inner = network()
    fully_shard(inner[2])
    refused(inner, r"'2', a part of the model, is wrapped \(FSDPModule\)")
    mesh = init_device_mesh("cpu", (1,))
    parallel = network()
    parallelize_module(parallel, mesh, {"0": ColwiseParallel()})
    refused(parallel, r"'0.weight' is a DTensor, whose parts lie on several devices")


@pytest.mark.usefixtures("group")
def test_replicate_is_refused() -> None:
    from torch.distributed._composable import replicate

    model = network()
    replicate(model)
    with pytest.raises(RuntimeError, match=r"^the model is .*; sparsify first, wrap after"):
        sparsify(model, 0.25)


@pytest.mark.parametrize(
    ("root", "name"),
    [("deepspeed.runtime.engine", "DeepSpeedEngine"), ("peft.peft_model", "PeftModel")],
)
def test_wrappers_of_other_libraries_are_told_by_name(root: str, name: str) -> None:
    cls = type(name, (nn.Module,), {"__module__": root})
    model: Any = cls()
    model.inside = nn.Linear(64, 64)
    refused(model, rf"the model is wrapped \({name}\), and ")
    # a class of that name in code of one's own is none
    cls = type(name, (nn.Module,), {"__module__": "project.models"})
    model = cls()
    model.inside = nn.Linear(64, 64)
    assert conversion_report(sparsify(model, 0.25)).replaced


def test_peft_adapters_are_refused() -> None:
    peft = pytest.importorskip("peft", exc_type=ImportError)
    model = nn.ModuleDict({"fc": nn.Linear(64, 64)})
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["fc"]))
    refused(wrapped, "the model is wrapped")


@pytest.mark.usefixtures("group")
def test_a_wrapper_around_the_model_is_found() -> None:
    model = network()
    wrapper: nn.Module = DistributedDataParallel(model)
    text = "^DistributedDataParallel wraps the model, and its reducer .*; sparsify first, wrap"
    with pytest.raises(RuntimeError, match=text):
        sparsify(model, 0.25)
    # a part of what it wraps
    with pytest.raises(RuntimeError, match=text):
        sparsify(nn.Sequential(model[2]), 0.25)
    # another model is none of its concern
    assert conversion_report(sparsify(network(), 0.25)).replaced
    del wrapper
    assert conversion_report(sparsify(model, 0.25)).replaced
    wrapper = compiled(other := network())
    with pytest.raises(RuntimeError, match=r"^OptimizedModule wraps the model, and"):
        sparsify(other, 0.25)
    del wrapper


@pytest.mark.usefixtures("group")
def test_wrapping_comes_after() -> None:
    x = torch.randn(3, 64)
    for wrap in (DistributedDataParallel, fully_shard, compiled, compiled_in_place):
        model = network()
        sparsify(model, 0.25)
        twin = copy.deepcopy(model)
        wrapped: Any = wrap(model)  # type: ignore[operator]
        wrapped(x).square().sum().backward()
        twin(x).square().sum().backward()
        for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            grad: Any = mine.grad
            torch.testing.assert_close(getattr(grad, "_local_tensor", grad), theirs.grad)


def test_activation_checkpointing_is_no_obstacle() -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = nn.Sequential(checkpoint_wrapper(network()))
    assert len(conversion_report(sparsify(model, 0.25)).replaced) == 2
    x = torch.randn(3, 64, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None

"""sparsify comes before wrappers and optimisers: what was wrapped or is optimised is refused."""

from __future__ import annotations

import copy
import os
import weakref
from collections.abc import Callable, Iterator
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

from dnc_sparse.nn import densify, sparsify, sparsify_like


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of this process alone."""
    file = tmp_path_factory.mktemp("group") / "store"
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
    assert sparsify(model, 0.25).replaced


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
    assert sparsify(network(), 0.25).replaced
    del wrapper
    assert sparsify(model, 0.25).replaced
    wrapper = compiled(other := network())
    with pytest.raises(RuntimeError, match=r"^OptimizedModule wraps the model, and"):
        sparsify(other, 0.25)
    del wrapper


def test_activation_checkpointing_is_no_obstacle() -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = nn.Sequential(checkpoint_wrapper(network()))
    assert len(sparsify(model, 0.25).replaced) == 2
    x = torch.randn(3, 64, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None


class Lion(torch.optim.Optimizer):
    """An optimiser of one's own: signs of a running mean."""

    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                    mean.mul_(0.9).add_(p.grad, alpha=0.1)
                    p.sub_(group["lr"] * mean.sign())


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.01),
    "Lion": lambda p: Lion(p, 0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_built_before_is_refused(name: str) -> None:
    model, other = network(), network()
    optimizer = OPTIMIZERS[name](model.parameters())
    others = OPTIMIZERS[name](other.parameters())
    text = rf"^an optimiser \({name}\) was built before and holds weights .* that of '0'; .* "
    with pytest.raises(RuntimeError, match=text + "Build it after sparsify, or hand it over"):
        sparsify(model, 0.25)
    assert type(model[0]) is nn.Linear
    # only what is replaced counts
    assert sparsify(nn.Sequential(model, network()), 0.25, skip=["0"]).replaced
    del optimizer
    assert sparsify(model, 0.25).replaced
    assert others.param_groups


def test_an_optimiser_in_a_cycle_that_nobody_reaches_is_no_obstacle() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.myself = optimizer  # type: ignore[attr-defined]
    del optimizer
    assert sparsify(model, 0.25).replaced


def test_a_parameter_group_written_before_is_refused() -> None:
    model = network()
    groups = [{"params": list(model.parameters()), "lr": 0.1}]
    with pytest.raises(RuntimeError, match=r"^a parameter group was built before and holds"):
        sparsify(model, 0.25)
    groups.clear()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_handed_over_goes_on_with_the_new_weights(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](
        [{"params": model[0].parameters()}, {"params": [model[2].bias, model[2].weight]}]
    )
    sparsify(model, 0.25, optimizer=optimizer)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    expected = [model[0].weight, model[0].bias, model[2].bias, model[2].weight]
    assert [id(p) for p in held] == [id(p) for p in expected]
    # the same steps as an optimiser built afterwards
    twin = copy.deepcopy(model)
    after = OPTIMIZERS[name](twin.parameters())
    for net, opt in ((model, optimizer), (twin, after)):
        for _ in range(3):
            opt.zero_grad()
            net(torch.ones(4, 64)).square().sum().backward()
            opt.step()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_moments_go_over_with_the_weights(name: str) -> None:
    """Three dense steps of a pruned net, then three sparse: as six masked dense ones."""
    torch.manual_seed(0)
    model = network()
    masks = {n: torch.rand(64, 64) < 0.25 for n in ("0", "2")}
    with torch.no_grad():
        for n, mask in masks.items():
            model.get_submodule(n).weight.mul_(mask)
    dense = copy.deepcopy(model)
    x = torch.randn(8, 64)

    def train(net: nn.Module, optimizer: torch.optim.Optimizer, masked: bool) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            if masked:
                for n, mask in masks.items():
                    net.get_submodule(n).weight.grad.mul_(mask)
            optimizer.step()

    optimizer, reference = (OPTIMIZERS[name](net.parameters()) for net in (model, dense))
    train(model, optimizer, True)
    sparsify(model, masks=masks, optimizer=optimizer)
    train(model, optimizer, False)
    train(dense, reference, True)
    train(dense, reference, True)
    for n, mask in masks.items():
        mine, theirs = model.get_submodule(n).to_dense(), dense.get_submodule(n)
        torch.testing.assert_close(mine.weight, theirs.weight * mask, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(mine.bias, theirs.bias, rtol=1e-4, atol=1e-6)


def stepped(optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(torch.ones(4, 64)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return optimizer


def test_states_without_a_part_for_each_weight_are_refused() -> None:
    model = network()
    optimizer = stepped(torch.optim.Adafactor(model.parameters()), model)
    text = r"^Adafactor keeps 'row_var' \(\[64, 1\]\) for a weight of shape \[64, 64\], .*; build"
    with pytest.raises(RuntimeError, match=text):
        sparsify(model, 0.25, keep_weights=True, optimizer=optimizer)
    assert type(model[0]) is nn.Linear
    model = network()
    optimizer = stepped(torch.optim.LBFGS(model.parameters(), max_iter=2), model)
    with pytest.raises(RuntimeError, match=r"^LBFGS keeps 'd' \(\[8320\]\)"):
        sparsify(model, 0.25, keep_weights=True, optimizer=optimizer)
    # a new start needs no old state
    model.zero_grad()
    sparsify(model, 0.25, optimizer=optimizer)
    stepped(optimizer, model)


def test_what_is_no_optimiser_is_refused() -> None:
    text = "^optimizer takes a torch.optim.Optimizer or a list of them; got a "
    model = network()
    with pytest.raises(TypeError, match=text + "generator"):
        sparsify(model, 0.25, optimizer=model.parameters())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=text + "str"):
        sparsify(network(), 0.25, optimizer="sgd")  # type: ignore[arg-type]


def test_an_optimiser_with_lists_of_its_own_is_refused() -> None:
    model = network()
    optimizer: Any = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.slow = list(model.parameters())
    with pytest.raises(RuntimeError, match=r"^SGD holds the weights to be replaced outside"):
        sparsify(model, 0.25, optimizer=optimizer)
    assert type(model[0]) is nn.Linear


def test_an_optimiser_built_from_an_old_list_cannot_step() -> None:
    model = network()
    parameters = list(model.parameters())
    sparsify(model, 0.25)
    optimizer = torch.optim.SGD(parameters, 0.1)
    model(torch.ones(2, 64)).sum().backward()
    text = r"^SGD holds a weight of shape \[64, 64\] that sparsify has replaced: the list of"
    with pytest.raises(RuntimeError, match=text):
        optimizer.step()
    # one over the new weights can, and so can one that trains the old layer elsewhere
    torch.optim.SGD(model.parameters(), 0.1).step()
    sum(p.sum() for p in parameters).backward()  # type: ignore[union-attr]
    optimizer.step()


def test_the_old_layers_are_freed() -> None:
    model = network()
    for convert in (lambda: sparsify(model, 0.25), lambda: densify(model)):
        old = [weakref.ref(thing) for thing in (*model, *model.parameters())]
        kept = weakref.ref(model[1])
        convert()
        assert [ref() for ref in old if ref() is not None] == [kept()]

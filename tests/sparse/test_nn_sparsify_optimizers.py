"""sparsify and optimisers: one built before is refused, or goes on with the new weights."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnc_sparse.nn import conversion_report, densify, sparsify


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))


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
    assert conversion_report(sparsify(nn.Sequential(model, network()), 0.25, skip=["0"])).replaced
    del optimizer
    assert conversion_report(sparsify(model, 0.25)).replaced
    assert others.param_groups


def test_an_optimiser_in_a_cycle_that_nobody_reaches_is_no_obstacle() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.myself = optimizer  # type: ignore[attr-defined]
    del optimizer
    assert conversion_report(sparsify(model, 0.25)).replaced


class Plain:
    """An optimiser that is none of torch's."""

    def __init__(self, params: Any) -> None:
        self.weights = {"all": [(0.1, p) for p in params]}

    def step(self) -> None:
        with torch.no_grad():
            for rate, p in self.weights["all"]:
                p -= rate * p.grad

    def zero_grad(self) -> None:
        for _, p in self.weights["all"]:
            p.grad = None


class Wrapped:
    """A wrapper of an optimiser, as mixed precision has it."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        self.optimizer.step()

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()


def test_optimisers_that_are_none_of_torchs_are_refused() -> None:
    model = network()
    optimizer = Plain(model.parameters())
    text = r"^an optimiser \(Plain\) was built before and holds weights that sparsify replaces"
    with pytest.raises(RuntimeError, match=text):
        sparsify(model, 0.25)
    assert conversion_report(sparsify(network(), 0.25)).replaced
    optimizer.weights.clear()
    inner = torch.optim.AdamW(model.parameters())
    wrapped = Wrapped(stepped(inner, model))
    model.zero_grad()
    with pytest.raises(RuntimeError, match=r"^an optimiser \((AdamW|Wrapped)\) was built before"):
        sparsify(model, 0.25)
    sparsify(model, 0.25, optimizer=inner)
    assert wrapped.optimizer.param_groups[0]["params"][0] is model[0].weight


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

"""The hook that explains a first call that fails goes at a success, and disturbs nobody."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from dnc_sparse.nn import sparsify


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_hooks_always_called) for m in model.modules())


def mlp() -> nn.Sequential:
    model = nn.Sequential(nn.Sequential(nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 64))
    sparsify(model, 0.25)
    assert hooks(model) == 4
    return model


def test_the_hooks_go_at_the_first_success() -> None:
    model = mlp()
    with pytest.raises(ValueError, match="64"):
        model(torch.ones(1, 63))
    assert hooks(model) == 4
    model(torch.ones(1, 64))
    assert hooks(model) == 0
    twin = copy.deepcopy(mlp())
    twin(torch.ones(1, 64))
    assert hooks(twin) == 0
    other = pickle.loads(pickle.dumps(mlp()))
    other(torch.ones(1, 64))
    assert hooks(other) == 0


def test_the_hooks_disturb_no_compiler() -> None:
    x = torch.randn(3, 64)
    for model in (mlp(), mlp().eval()):
        expected = copy.deepcopy(model)(x)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), expected)
        # after an eager call too, which takes the hooks out
        model(x)
        torch.testing.assert_close(compiled(x), expected)
    for strict in (False, True):
        model = mlp()
        program = torch.export.export(model, (x,), strict=strict)
        torch.testing.assert_close(program.module()(x), model(x))


def test_the_hooks_pass_functorch_and_functional_call() -> None:
    model, x = mlp(), torch.randn(3, 64)
    expected = copy.deepcopy(model)(x)
    state = dict(model.named_parameters())
    torch.testing.assert_close(torch.func.functional_call(model, state, (x,)), expected)
    assert hooks(model) == 0

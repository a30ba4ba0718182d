"""Sparse layers inside torch's machinery: compile, export, autocast, gradients."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dnc_sparse.nn import SparseLinear, SparseMLP, sparsify


def mlp() -> SparseMLP:
    torch.manual_seed(0)
    return SparseMLP((32, 16, 8), fan_out=(4, 4), seed=1)


def assert_same_step(model: nn.Module, other: nn.Module, x: Tensor) -> None:
    """Compare outputs and gradients of a model and of a transformed form of it."""
    expected = model(x)
    expected.square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    result = other(x)
    torch.testing.assert_close(result, expected)
    result.square().sum().backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("shape", [(5, 32), (2, 3, 32), (32,)])
def test_full_graph_compilation(shape: tuple[int, ...]) -> None:
    model = mlp()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_same_step(model, compiled, torch.randn(shape))


def test_full_graph_compilation_with_any_batch() -> None:
    model = mlp()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (2, 5, 9):
        model.zero_grad()
        assert_same_step(model, compiled, torch.randn(batch, 32))


# inductor and its dependencies warn about themselves
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler")
def test_compilation_by_inductor() -> None:
    model = nn.Sequential(SparseLinear(32, 16, 0.25), nn.Tanh())
    compiled = torch.compile(model, fullgraph=True)
    x = torch.randn(5, 32)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))


def test_compiles_inside_a_transformer() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0, batch_first=True)
    sparsify(layer, 0.25)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_same_step(layer, compiled, torch.randn(2, 5, 32))
    with torch.no_grad():
        x = torch.randn(2, 5, 32)
        torch.testing.assert_close(compiled.eval()(x), layer.eval()(x))


LOAD = """
import sys, torch, dnc_sparse.ops
program = torch.export.load(sys.argv[1]).module()
x, y = torch.load(sys.argv[2], weights_only=True)
assert torch.equal(program(x), y)
assert program(x[:3]).shape == (3, 8)
"""


def test_exported_program_runs_in_another_process_with_any_batch(tmp_path: Path) -> None:
    model = mlp().eval()
    x = torch.randn(6, 32)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    assert torch.equal(program.module()(x), model(x))
    torch.export.save(program, tmp_path / "net.pt2")
    torch.save((x, model(x).detach()), tmp_path / "example.pt")
    files = (str(tmp_path / "net.pt2"), str(tmp_path / "example.pt"))
    subprocess.run([sys.executable, "-c", LOAD, *files], check=True, timeout=60)


def test_autocast_computes_in_its_dtype_and_keeps_float32_weights() -> None:
    model = mlp()
    x = torch.randn(64, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
    assert torch.equal(y, copy.deepcopy(model).bfloat16()(x.bfloat16()))


@pytest.mark.parametrize("leading", [(3,), (2, 2)])
def test_gradients_are_exact(leading: tuple[int, ...]) -> None:
    layer = SparseLinear(8, 6, 0.5, dtype=torch.float64)
    x = torch.randn(*leading, 8, dtype=torch.float64, requires_grad=True)

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))
        return y

    assert layer.bias is not None
    assert torch.autograd.gradcheck(call, (x, layer.weight, layer.bias))


def test_changing_dtype_and_device_moves_the_weights_only() -> None:
    layer = SparseLinear(8, 6, 0.5)
    pattern = layer.pattern
    assert layer.double().weight.dtype == torch.float64
    assert layer.pattern is pattern
    assert layer.to("meta").weight.is_meta


def test_checkpointed_activations_give_the_same_gradients() -> None:
    model = mlp()
    x = torch.randn(5, 32, requires_grad=True)

    class Checkpointed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False)
            return y

    assert_same_step(model, Checkpointed(), x)


class Block(nn.Module):
    """A block with one linear layer, as many models have in rows."""

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        dense = seed is None
        self.layer = nn.Linear(16, 16) if dense else SparseLinear(16, 16, 0.25, seed=seed)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.layer(x))


def graphs_of_blocks_compiled_one_by_one(seeds: list[int | None]) -> int:
    count = 0

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        nonlocal count
        count += 1
        return graph.forward

    torch.compiler.reset()
    x = torch.randn(2, 16)
    for seed in seeds:
        block = Block(seed)
        block.compile(backend=counting)
        with torch.no_grad():
            x = block(x)
    return count


def test_equal_dense_blocks_share_their_graphs() -> None:
    assert graphs_of_blocks_compiled_one_by_one([None] * 12) == 1


# issue 16: edges as a tensor operand, so that blocks which differ in their pattern share a graph
@pytest.mark.xfail(
    strict=True, reason="operators take the pattern as a text, a constant of a graph"
)
def test_sparse_blocks_share_their_graphs_too() -> None:
    assert graphs_of_blocks_compiled_one_by_one(list(range(12))) == 1

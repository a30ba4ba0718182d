"""ONNX files of sparse layers: onnxruntime computes what the layers do, and the files are small."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dnc_sparse.onnx
from dnc_sparse import Pattern, SparseLinear, SparseMLP, conversion_report, sparsify
from dnc_sparse.patterns import from_mask

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
ort = pytest.importorskip("onnxruntime")

# torch's own: its exporter pickles a deprecated class
pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")
BATCH = ({0: torch.export.Dim.DYNAMIC},)
BLOCKS_AND_SHAPES = [
    (1, (3, 128)),
    (4, (3, 128)),
    (8, (3, 7, 128)),
    ((16, 8), (3, 7, 128)),
    (1, (3, 2, 5, 128)),
]


def saved(model: nn.Module, x: Tensor, path: Path, **options: Any) -> Path:
    """Export with any number of samples into one file."""
    file = path / "model.onnx"
    options = {"dynamic_shapes": BATCH, "external_data": False, "verbose": False, **options}
    dnc_sparse.onnx.export(model.eval(), (x,), file, **options)
    return file


def assert_equals(model: nn.Module, x: Tensor, file: Path, tolerance: float = 1e-5) -> None:
    """Compare onnxruntime with the model in eval mode at 1 to 5 samples."""
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for samples in (1, 2, 5):
        inputs = torch.randn(samples, *x.shape[1:], dtype=x.dtype)
        with torch.no_grad():
            expected = model(inputs)
        got = torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= tolerance


def dense_twin(model: nn.Module) -> nn.Module:
    """Build a sequence of the dense equivalents of a sequence of layers."""
    layers = [m.to_dense() if isinstance(m, SparseLinear) else m for m in model.children()]
    return nn.Sequential(*layers)


def uneven_pattern(n_out: int, n_in: int) -> Pattern:
    mask = np.random.default_rng(0).random((n_out, n_in)) < 0.1
    mask[0] = False
    mask[1, : n_in // 2] = True
    return from_mask(mask)


@pytest.mark.parametrize(("block", "shape"), BLOCKS_AND_SHAPES, ids=str)
def test_blocks_and_dimensions(block: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    model = nn.Sequential(
        SparseLinear(128, 64, 0.25, block=block), nn.GELU(), SparseLinear(64, 32, 0.5, block=block)
    )
    x = torch.randn(shape)
    file = saved(model, x, tmp_path)
    assert_equals(model, x, file)
    assert_equals(dense_twin(model), x, file)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_bias_and_relu(bias: bool, relu: bool, tmp_path: Path) -> None:
    model = nn.Sequential(SparseLinear(64, 48, 0.25, block=1, bias=bias, relu=relu))
    assert_equals(model, torch.randn(2, 64), saved(model, torch.randn(2, 64), tmp_path))


@pytest.mark.parametrize("sizes", [(96, 64), (960, 320)], ids=str)
@pytest.mark.parametrize("dense", [False, True])
def test_uneven_patterns(sizes: tuple[int, int], dense: bool, tmp_path: Path) -> None:
    model = nn.Sequential(SparseLinear(*sizes, pattern=uneven_pattern(sizes[1], sizes[0])))
    with torch.no_grad():
        # what an empty slot holds is no edge's weight
        model[0].weight[model[0].weight == 0] = 7
    x = torch.randn(3, sizes[0])
    assert_equals(dense_twin(model), x, saved(model, x, tmp_path, dense=dense))


def test_a_transformer_block(tmp_path: Path) -> None:
    block = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    assert len(conversion_report(sparsify(block, density=0.25)).replaced) == 2
    x = torch.randn(3, 6, 64)
    assert_equals(block, x, saved(block, x, tmp_path))


def test_a_sparse_mlp_with_fused_relu(tmp_path: Path) -> None:
    model = SparseMLP((784, 256, 128, 10), density=1 / 8)
    x = torch.randn(3, 784)
    assert_equals(model, x, saved(model, x, tmp_path))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float16, 2e-3)], ids=str
)
def test_dtypes(dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    model = nn.Sequential(SparseLinear(256, 128, 0.25, block=4, dtype=dtype))
    x = torch.randn(3, 256, dtype=dtype)
    assert_equals(model, x, saved(model, x, tmp_path), tolerance)


def test_bfloat16_is_written(tmp_path: Path) -> None:
    # onnxruntime has no bfloat16 product on the CPU
    model = nn.Sequential(SparseLinear(64, 64, 0.25, block=1, dtype=torch.bfloat16))
    file = saved(model, torch.randn(3, 64, dtype=torch.bfloat16), tmp_path)
    onnx.checker.check_model(onnx.load(file))


@pytest.mark.parametrize(("version", "optimize"), [(18, True), (21, False)])
def test_opset_versions(version: int, optimize: bool, tmp_path: Path) -> None:
    model = nn.Sequential(SparseLinear(128, 64, 0.25, block=1), SparseLinear(64, 32, 0.25, block=8))
    x = torch.randn(3, 128)
    assert_equals(model, x, saved(model, x, tmp_path, opset_version=version, optimize=optimize))


def stored_bytes(file: Path) -> int:
    """Count the bytes of all tensors in a file."""
    graph = onnx.load(file).graph
    constants = [n.attribute[0].t for n in graph.node if n.op_type == "Constant"]
    return sum(
        onnx.numpy_helper.to_array(tensor).nbytes for tensor in [*graph.initializer, *constants]
    )


@pytest.mark.parametrize("block", [1, 8], ids=str)
@pytest.mark.parametrize(
    ("width", "optimize"), [(64, True), (128, True), (1024, True), (1024, False)]
)
def test_files_stay_small(block: int, width: int, optimize: bool, tmp_path: Path) -> None:
    # widths below, at and above what exporters fold
    model = nn.Sequential(SparseLinear(width, width, 1 / 8, block=block))
    layer, x = model[0], torch.randn(3, width)
    column = 1 if width // block <= 256 else 2
    tables = layer.n_edges // block**2 * column + 8 * layer.pattern.rows
    shapes = 200
    file = saved(model, x, tmp_path, optimize=optimize)
    assert stored_bytes(file) <= 4 * (layer.n_edges + width) + tables + shapes
    if width == 1024:
        small = file.stat().st_size
        dense = saved(dense_twin(model), x, tmp_path, optimize=optimize).stat().st_size
        assert small < dense * (0.21 if block == 1 else 0.14)


def test_dense_files_on_request(tmp_path: Path) -> None:
    model = nn.Sequential(
        SparseLinear(256, 256, 1 / 8, block=1), SparseLinear(256, 128, 1 / 8, block=8)
    )
    x = torch.randn(3, 256)
    file = saved(model, x, tmp_path, dense=True)
    assert_equals(model, x, file)
    assert file.stat().st_size > 4 * (256 * 256 + 256 * 128)
    program = dnc_sparse.onnx.export(model, (x,), dense=True, verbose=False)
    assert [node.op_type for node in program.model.graph] == ["Gemm", "Gemm"]


@pytest.mark.parametrize("dense", [False, True])
def test_weights_beside_the_file(dense: bool, tmp_path: Path) -> None:
    model = nn.Sequential(SparseLinear(256, 256, 1 / 8))
    x = torch.randn(3, 256)
    file = saved(model, x, tmp_path, dense=dense, external_data=True)
    assert_equals(model, x, file)
    assert (tmp_path / "model.onnx.data").stat().st_size >= 4 * model[0].n_edges


def test_the_table_serves_torch_itself(tmp_path: Path) -> None:
    model = nn.Sequential(SparseLinear(64, 32, 0.25)).eval()
    x, file = torch.randn(3, 64), tmp_path / "model.onnx"
    table = dnc_sparse.onnx.translation_table()
    options: dict[str, Any] = {"dynamo": True, "dynamic_shapes": BATCH, "verbose": False}
    torch.onnx.export(model, (x,), file, custom_translation_table=table, **options)
    assert_equals(model, x, file)


def test_further_translations_are_kept() -> None:
    seen: list[str] = []

    def relu(x: Any) -> Any:
        from onnxscript import opset18

        seen.append("relu")
        return opset18.Relu(x)

    model = nn.Sequential(SparseLinear(64, 32, 0.25), nn.ReLU()).eval()
    table = {torch.ops.aten.relu.default: relu}
    dnc_sparse.onnx.export(
        model, (torch.randn(2, 64),), custom_translation_table=table, verbose=False
    )
    assert seen == ["relu"]


def test_without_the_table_torch_refuses() -> None:
    model = nn.Sequential(SparseLinear(64, 32, 0.25)).eval()
    with pytest.raises(torch.onnx.errors.OnnxExporterError, match=r"dnc_sparse.forward"):
        torch.onnx.export(model, (torch.randn(2, 64),), dynamo=True, verbose=False)


def test_the_old_exporter_is_refused() -> None:
    model = nn.Sequential(SparseLinear(64, 32, 0.25))
    with pytest.raises(ValueError, match=r"^dynamo=False asks for torch's old exporter, .*dense"):
        dnc_sparse.onnx.export(model, (torch.randn(2, 64),), dynamo=False)


def test_without_onnxscript(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name == "onnxscript":
            raise ModuleNotFoundError(name)
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ModuleNotFoundError, match=r"^ONNX files of .* 'dnc-sparse\[onnx\]'$"):
        dnc_sparse.onnx.translation_table()

"""ONNX files of sparse layers: the weights, where they belong, and one product.

| name      | meaning                                                  | shape                     |
|-----------|----------------------------------------------------------|---------------------------|
| weight    | one number per edge, in the pattern's slots (`Pattern`)  | [rows, slots, bo, bi]     |
| positions | place of an edge block in the matrix of blocks           | [edge blocks, 1]          |
| blocks    | the dense weight, block by block, zero where no edge is  | [rows * columns, bo * bi] |

ONNX has no product over a pattern. A layer becomes ScatterND, which writes the weights into a dense
matrix, and Gemm. A runtime that folds constants (onnxruntime does) scatters once, when it loads the
file: a call then costs what a dense layer costs, and only the file is small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnc_sparse.backends import reference
from dnc_sparse.patterns import Pattern

_INT64 = 7
_SAVE_OPTIONS = {"export_params": True, "keep_initializers_as_inputs": False, "external_data": True}
# what stands between the weights of a layer and its dense matrix
_SCATTERING = {"ConstantOfShape", "Expand", "Cast", "Add", "Reshape", "Compress", "ScatterND"}


def export(
    model: Any, args: tuple[Any, ...] = (), f: Any = None, *, dense: bool = False, **options: Any
) -> Any:
    """Export a model with sparse layers to ONNX and return torch's `ONNXProgram`.

    The arguments are those of `torch.onnx.export(dynamo=True)`. With `dense` the file holds dense
    weights, zeros included: for runtimes that would scatter the weights again at every call.

    Raises ValueError for `dynamo=False`, ModuleNotFoundError without onnxscript, and whatever
    `torch.onnx.export` raises.
    """
    if not options.pop("dynamo", True):
        raise ValueError(
            "dynamo=False asks for torch's old exporter, which cannot translate sparse layers; "
            "leave dynamo out, or make the model dense first (dnc_sparse.densify)"
        )
    table = translation_table() | (options.pop("custom_translation_table", None) or {})
    export_with = dict(dynamo=True, custom_translation_table=table, **options)
    if not dense:
        return torch.onnx.export(model, args, f, **export_with)
    save_with = {name: export_with.pop(name, value) for name, value in _SAVE_OPTIONS.items()}
    program: Any = torch.onnx.export(model, args, **export_with)
    _fold(program)
    if f is not None:
        save_with["include_initializers"] = save_with.pop("export_params")
        program.save(f, **save_with)
    return program


def translation_table() -> dict[Any, Callable[..., Any]]:
    """Return the translations for `torch.onnx.export(..., custom_translation_table=...)`.

    Raises ModuleNotFoundError without onnxscript.
    """
    _onnxscript()
    return {torch.ops.dnc_sparse.forward.default: _forward}


def _forward(x: Any, weight: Any, bias: Any, pattern: str, relu: bool = False) -> Any:
    """Emit the nodes of one layer; operators and values are onnxscript's."""
    op = _onnxscript().opset18
    y = op.Gemm(x, _dense_weight(op, weight, Pattern.from_key(pattern)), bias, transB=1)
    return op.Relu(y) if relu else y


def _dense_weight(op: Any, weight: Any, pattern: Pattern) -> Any:
    """Emit the nodes that write a layer's weights into a dense matrix: [n_out, n_in]."""
    (bo, bi), rows, columns = pattern.block, pattern.rows, pattern.columns
    places = _slot_places(pattern)
    filled = places >= 0
    values = op.Reshape(weight, _constant(op, [-1, bo * bi]))
    if not filled.all():
        values = op.Compress(values, _constant(op, filled), axis=0)
    positions = _positions(op, places[filled], pattern)
    blocks = op.ScatterND(_zeros(op, weight.dtype, rows * columns, bo * bi), positions, values)
    if bo * bi > 1:
        tiles = op.Reshape(blocks, _constant(op, [rows, columns, bo, bi]))
        blocks = op.Transpose(tiles, perm=[0, 2, 1, 3])
    return op.Reshape(blocks, _constant(op, [pattern.n_out, pattern.n_in]))


def _slot_places(pattern: Pattern) -> NDArray[np.int64]:
    """Return the place of each slot of the weight in the matrix of blocks, -1 for empty slots."""
    (bo, bi), rows, columns = pattern.block, pattern.rows, pattern.columns
    # the weight of a layer whose every entry is its place: right however a pattern stores slots
    numbers = torch.arange(1, rows * columns + 1).reshape(rows, 1, columns, 1)
    dense = numbers.expand(rows, bo, columns, bi).reshape(pattern.n_out, pattern.n_in)
    corners = reference.edge_weight(dense, pattern)[:, :, 0, 0]
    places: NDArray[np.int64] = corners.reshape(-1).numpy() - 1
    return places


def _positions(op: Any, places: NDArray[np.int64], pattern: Pattern) -> Any:
    """Emit the nodes that say where each edge block lies: int64 [edge blocks, 1].

    The file stores columns when all rows have the same number of blocks, in one or two bytes for
    nearly every layer, and whole places otherwise.
    """
    rows, columns = pattern.rows, pattern.columns
    if pattern.is_full:
        stored = _narrowed(places.reshape(rows, -1) % columns, columns)
        first = np.arange(rows)[:, None] * columns
        numbers = op.Add(_unfolded(op, stored), _constant(op, first))
    else:
        numbers = _unfolded(op, _narrowed(places, rows * columns))
    return op.Reshape(numbers, _constant(op, [-1, 1]))


def _unfolded(op: Any, table: NDArray[Any]) -> Any:
    """Emit a table as int64 that an exporter stores as narrow as it is.

    Exporters fold constants, but never ConstantOfShape, on which the expansion depends.
    """
    ones = op.ConstantOfShape(_constant(op, [table.ndim]), value=_tensor(np.ones(1, np.int64)))
    return op.Cast(op.Expand(_constant(op, table), ones), to=_INT64)


def _narrowed(table: NDArray[Any], limit: int) -> NDArray[Any]:
    """Return indices below the limit in the narrowest type that onnxruntime can expand."""
    fitting = (t for t in (np.uint8, np.uint16, np.int32) if limit - 1 <= np.iinfo(t).max)
    return table.astype(next(fitting, np.int64))


def _zeros(op: Any, dtype: Any, *shape: int) -> Any:
    """Emit a matrix of zeros that takes no room in the file."""
    zero = _onnx_ir().Tensor(np.zeros(1, dtype.numpy()), dtype=dtype)
    return op.ConstantOfShape(_constant(op, list(shape)), value=zero)


def _constant(op: Any, value: NDArray[Any] | list[int]) -> Any:
    return op.Constant(value=_tensor(np.asarray(value)))


def _tensor(value: NDArray[Any]) -> Any:
    return _onnx_ir().tensor(value)


def _fold(program: Any) -> None:
    """Replace the nodes that scatter weights by the dense weights, in place."""
    optimizer = _onnxscript().optimizer
    optimizer.fold_constants(
        program.model,
        output_size_limit=2**62,
        should_fold=lambda node: True if node.op_type in _SCATTERING else None,
    )
    optimizer.remove_unused_nodes(program.model)


def _onnxscript() -> Any:
    try:
        import onnxscript
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "ONNX files of sparse layers need onnxscript: pip install 'dnc-sparse[onnx]'"
        ) from error
    return onnxscript


def _onnx_ir() -> Any:
    # onnxscript stands on it
    import onnx_ir

    return onnx_ir

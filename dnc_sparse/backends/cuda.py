"""Compiled kernels for NVIDIA GPUs, from compute capability 8.0 on.

Tensors may have any strides; results are contiguous. Sums are kept in float32 by IEEE arithmetic,
in an order that depends on nothing but shapes and the GPU's model. Nothing waits for the device, so
calls may be captured in a CUDA graph, once a first call has copied the pattern's tables there.
Workspaces come from torch's allocator: the transposed activations (as large as those) and packed
weights (float32).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dnc_sparse.backends import cuda_blocks, cuda_few, cuda_module
from dnc_sparse.backends.compiled import plain
from dnc_sparse.backends.cuda_few import FewTable
from dnc_sparse.backends.cuda_module import DTYPES, aligned
from dnc_sparse.backends.cuda_tables import QUAD, Direction, Table, build
from dnc_sparse.backends.padded import on_padded_rows
from dnc_sparse.patterns import Pattern

OLDEST = 80
# batches that are computed along the edges
FEW = 16
# samples of a tile, and blocks for each multiprocessor, two of which run at once
SAMPLE_TILE = 256
BLOCKS_EACH = 4
# side of a block from which tensor cores beat these kernels
TENSOR_CORE_SIDE = 16


def unavailable(
    device: str | None = None,
    dtype: torch.dtype | None = None,
    block: tuple[int, int] | None = None,
) -> str | None:
    """Why this backend cannot run (here, or on these); None when it can."""
    module = cuda_module.compiled()
    if module is None:
        return cuda_module.NOT_BUILT
    if module.DEVICE == "cuda" and (reason := _no_gpu()) is not None:
        return reason
    if device not in (None, module.DEVICE):
        return f"it computes on CUDA devices, not on {device!r}"
    if dtype is not None and dtype not in DTYPES:
        return f"{dtype} is not among its dtypes: {', '.join(map(str, DTYPES))}"
    return None


def _no_gpu() -> str | None:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA"
    if not torch.cuda.is_available():
        return "no CUDA driver or device was found"
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        if major * 10 + minor < OLDEST:
            return (
                f"device {index}, {torch.cuda.get_device_name(index)}, has compute capability "
                f"{major}.{minor}; 8.0 or newer is needed (hide it by CUDA_VISIBLE_DEVICES)"
            )
    return None


@on_padded_rows
def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias, negative ones as zero with `relu`: [batch, n_out]."""
    few = _few_samples(x, pattern)
    if few is not None:
        return _few(*few, x, weight, bias, pattern, relu)
    if cuda_blocks.unavailable(pattern, x.dtype, x.device) is None:
        return cuda_blocks.forward(x, weight, bias, pattern, relu)
    return _multiply("forward", _transposed(x), len(x), weight, bias, pattern, relu)


@on_padded_rows
def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return grad_y W: [batch, n_in]."""
    if cuda_blocks.unavailable(pattern, grad_y.dtype, grad_y.device) is None:
        return cuda_blocks.grad_input(grad_y, weight, pattern)
    return _multiply("backward", _transposed(grad_y), len(grad_y), weight, None, pattern, False)


def _few_samples(x: Tensor, pattern: Pattern) -> tuple[int, FewTable, Any] | None:
    """Return how many samples to take at once along the edges, and the table; None if not so."""
    batch = x.shape[0]
    if not 0 < batch <= FEW:
        return None
    table, described = _few_table(pattern, x.device)
    if table is None:
        return None
    _, _, shared_bytes = cuda_module.load().properties(x.device.index or 0)
    # a block may have all but what the system keeps
    most = cuda_module.load().few_samples(described, shared_bytes - 1024)
    samples = min(most, 1 if batch == 1 else 4 if batch <= 4 else 8)
    return (samples, table, described) if samples else None


def _few(
    samples: int,
    table: FewTable,
    described: Any,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    pattern: Pattern,
    relu: bool,
) -> Tensor:
    module, place = cuda_module.load(), cuda_module.place(x)
    x, weight, bias = plain(x), aligned(weight), None if bias is None else aligned(bias)
    y = x.new_empty(x.shape[0], pattern.n_out)
    _, multiprocessors, _ = module.properties(place.device)
    module.few(
        place,
        cuda_module.dtype(x.dtype),
        described,
        x.data_ptr(),
        *x.stride(),
        weight.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        relu,
        y.data_ptr(),
        x.shape[0],
        samples,
        multiprocessors,
    )
    return y


@on_padded_rows
def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return each edge's share of grad_y^T x, zero in empty slots: [rows, slots, bo, bi]."""
    if cuda_blocks.unavailable(pattern, x.dtype, x.device) is None:
        return cuda_blocks.grad_weight(grad_y, x, pattern)
    return _grad_weight(_transposed(grad_y), _transposed(x), len(x), pattern)


@on_padded_rows
def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients in x, weight and, if asked, bias."""
    if cuda_blocks.unavailable(pattern, x.dtype, x.device) is None:
        return cuda_blocks.backward(grad_y, x, weight, pattern, bias)
    outputs, batch = _transposed(grad_y), len(x)
    return (
        _multiply("backward", outputs, batch, weight, None, pattern, False),
        _grad_weight(outputs, _transposed(x), batch, pattern),
        grad_y.sum(0) if bias else None,
    )


def _grad_weight(outputs: Tensor, columns: Tensor, batch: int, pattern: Pattern) -> Tensor:
    """Return the weight's gradient from transposed activations of both sides."""
    if batch == 0:
        return columns.new_zeros(pattern.weight_shape)
    module, place, dtype = (
        cuda_module.load(),
        cuda_module.place(columns),
        cuda_module.dtype(columns.dtype),
    )
    _, multiprocessors, shared_bytes = module.properties(place.device)
    tile = module.grad_weight_tile(dtype, shared_bytes)
    table, described = _table(pattern, "forward", tile, columns.device)
    # kernels write no slot without an edge
    make = columns.new_empty if pattern.is_full else columns.new_zeros
    grad = make(pattern.weight_shape)
    splits = _splits(module.grad_weight_blocks(described), columns.shape[1], multiprocessors)
    partial = columns.new_empty(splits, table.quads, QUAD, table.share, dtype=torch.float32)
    module.grad_weight(
        place,
        dtype,
        described,
        columns.data_ptr(),
        outputs.data_ptr(),
        partial.data_ptr(),
        splits,
        grad.data_ptr(),
        batch,
    )
    return grad


def candidates(
    function: str, pattern: Pattern, dtype: torch.dtype, batch: int, device: torch.device
) -> tuple[str, ...]:
    """Return the names of what is worth racing for a function: one kernel family, or none.

    "blocks" where `cuda_blocks` may run; "edges", all others, unless Triton's kernels surely win,
    which need blocks, several samples and a dtype that tensor cores multiply.
    """
    if batch > FEW and cuda_blocks.unavailable(pattern, dtype, device) is None:
        return ("blocks",)
    tensor_cores = min(pattern.block) >= TENSOR_CORE_SIDE and dtype != torch.float32
    return () if tensor_cores and batch > FEW else ("edges",)


def run(function: str, config: str, arguments: tuple[Any, ...]) -> Any:
    """Return a function's value; the arguments are the function's own."""
    functions: dict[str, Callable[..., Any]] = {
        "forward": forward,
        "grad_input": grad_input,
        "grad_weight": grad_weight,
        "backward": backward,
    }
    return functions[function](*arguments)


def _splits(blocks: int, padded: int, multiprocessors: int) -> int:
    """Parts of the batch, so many that every multiprocessor has several blocks."""
    wanted = -(-BLOCKS_EACH * multiprocessors // max(blocks, 1))
    return max(1, min(wanted, padded // SAMPLE_TILE))


def _multiply(
    direction: Direction,
    samples: Tensor,
    batch: int,
    weight: Tensor,
    bias: Tensor | None,
    pattern: Pattern,
    relu: bool,
) -> Tensor:
    """Return the product of transposed activations: [batch, outputs of the direction]."""
    module, place, dtype = (
        cuda_module.load(),
        cuda_module.place(samples),
        cuda_module.dtype(samples.dtype),
    )
    weight, bias = aligned(weight), None if bias is None else aligned(bias)
    _, _, shared_bytes = module.properties(place.device)
    tile = module.multiply_tile(shared_bytes)
    table, described = _table(pattern, direction, tile, samples.device)
    y = samples.new_empty(batch, table.groups * table.share)
    ordered = samples.new_empty(table.quads, QUAD, table.share, dtype=torch.float32)
    module.pack(place, dtype, described, weight.data_ptr(), ordered.data_ptr())
    module.multiply(
        place,
        dtype,
        described,
        samples.data_ptr(),
        ordered.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        relu,
        y.data_ptr(),
        batch,
    )
    return y


def _transposed(x: Tensor) -> Tensor:
    """Return each feature's samples side by side, zeros past the batch: [features, padded]."""
    x = plain(x)
    batch, features = x.shape
    out = x.new_empty(features, cuda_module.load().padded_batch(batch))
    cuda_module.load().transpose(
        cuda_module.place(x),
        cuda_module.dtype(x.dtype),
        x.data_ptr(),
        *x.stride(),
        batch,
        features,
        out.data_ptr(),
    )
    return out


def _table(
    pattern: Pattern, direction: Direction, tile: int, device: torch.device
) -> tuple[Table, Any]:
    def make() -> tuple[Table, Any]:
        table = build(pattern, direction, tile, device)
        return table, _described(table, pattern, direction)

    return pattern.plan(("cuda", direction, tile, str(device)), make)


def _described(table: Table, pattern: Pattern, direction: Direction) -> Any:
    bo, bi = pattern.block
    steps = (bi, 1) if direction == "forward" else (1, bi)
    return cuda_module.load().Table(
        groups=table.groups,
        columns=table.columns,
        tile=table.tile,
        share=table.share,
        quads=table.quads,
        most=table.most,
        first=table.first.data_ptr(),
        offset=table.offset.data_ptr(),
        order=table.order.data_ptr(),
        group=table.group.data_ptr(),
        cells=bo * bi,
        output_block=table.output_block,
        output_step=steps[0],
        column_block=table.column_block,
        column_step=steps[1],
    )


def _few_table(pattern: Pattern, device: torch.device) -> tuple[FewTable | None, Any]:
    def make() -> tuple[FewTable | None, Any]:
        table = cuda_few.build(pattern, device)
        if table is None:
            return None, None
        bo, bi = pattern.block
        described = cuda_module.load().FewTable(
            rows=pattern.rows,
            slots=pattern.slots,
            output_block=bo,
            column_block=bi,
            side=table.side,
            columns=table.columns,
            pitch=table.pitch,
            depth=table.depth,
            runs=table.runs,
            offset=table.offset.data_ptr(),
            count=table.count.data_ptr(),
        )
        return table, described

    return pattern.plan(("cuda", "few", str(device)), make)

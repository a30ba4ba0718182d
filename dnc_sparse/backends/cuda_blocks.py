"""Tensor-core kernels for junctions of 64 x 64 and 128 x 128 blocks, part of the cuda backend.

bfloat16 and float16, sums in float32, patterns with equal rows and equal columns, on GPUs of
capability 9.0: the copy engine feeds warpgroup products (csrc/cuda/hopper*). No GPU has run these
kernels yet, only the emulator of tests/cuda: a device takes them after `allow(device)`, which
compares them with the oracle there first.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import count
from typing import Any

import torch
from torch import Tensor

from dnc_sparse.backends import cuda_module, reference
from dnc_sparse.backends.compiled import plain
from dnc_sparse.backends.cuda_module import ALIGNMENT_BYTES, aligned
from dnc_sparse.patterns import Pattern, regular

BLOCKS = (64, 128)
DTYPES = (torch.bfloat16, torch.float16)
HOPPER = 90

# why each device that was asked about does not run these kernels, None where it does
_allowed: dict[str, str | None] = {}


def allow(device: torch.device | str) -> str | None:
    """Let junctions on a device use these kernels if they compute right there; else why not."""
    key = _name(device)
    _allowed[key] = self_check(key)
    return _allowed[key]


def forbid(device: torch.device | str) -> None:
    """Take back `allow`."""
    _allowed.pop(_name(device), None)


def _name(device: torch.device | str) -> str:
    # "cuda" means the current one
    given = torch.device(device)
    if given.type == "cuda" and given.index is None:
        given = torch.device("cuda", torch.cuda.current_device())
    return str(given)


def unavailable(pattern: Pattern, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why a junction on a device does not use these kernels; None when it does."""
    bo, bi = pattern.block
    if bo != bi or bo not in BLOCKS:
        return f"blocks are {bo}x{bi}, not 64x64 or 128x128"
    if dtype not in DTYPES:
        return f"{dtype} is not among {', '.join(map(str, DTYPES))}"
    if str(device) not in _allowed:
        return f"not allowed on {device}; call dnc_sparse.backends.cuda_blocks.allow({device})"
    if pattern.n_edges == 0:
        return "the pattern has no edges"
    if not pattern.is_regular:
        return "rows or columns of blocks differ in their number of edges"
    return _allowed[str(device)]


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, pattern: Pattern, relu: bool = False
) -> Tensor:
    """Return y = x W^T + bias, negative ones as zero with `relu`: [batch, n_out]."""
    return _plan(pattern, x.device).forward(x, weight, bias, relu)


def grad_input(grad_y: Tensor, weight: Tensor, pattern: Pattern) -> Tensor:
    """Return grad_y W: [batch, n_in]."""
    return _plan(pattern, grad_y.device).grad_input(grad_y, weight)


def grad_weight(grad_y: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return each edge's share of grad_y^T x: [rows, slots, b, b]."""
    return _plan(pattern, x.device).backward(grad_y, x, None, False)[1]


def backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, pattern: Pattern, bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients in x, weight and, if asked, bias, reading grad_y once where it fits."""
    grad_x, grad_weight, grad_bias = _plan(pattern, x.device).backward(grad_y, x, weight, bias)
    assert grad_x is not None
    return grad_x, grad_weight, grad_bias


class _Plan:
    """A junction's tables on a device, whose work so many multiprocessors share."""

    def __init__(self, pattern: Pattern, device: torch.device | str, multiprocessors: int) -> None:
        self.pattern = pattern
        self.multiprocessors = multiprocessors
        self.tables = [
            torch.from_numpy(table.copy()).to(device)
            for table in (pattern.sources, pattern.targets)
        ]
        sources, targets = self.tables
        self.blocks = cuda_module.load().Blocks(
            block=pattern.block[0],
            rows=pattern.rows,
            slots=pattern.slots,
            columns=pattern.columns,
            degree=targets.shape[1],
            sources=sources.data_ptr(),
            targets=targets.data_ptr(),
        )

    def head(self, x: Tensor) -> tuple[Any, ...]:
        """Return the arguments with which every call begins."""
        return (
            cuda_module.place(x),
            cuda_module.dtype(x.dtype),
            self.multiprocessors,
            self.blocks,
        )

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        x, weight = _rows(x), aligned(weight)
        bias = None if bias is None else aligned(bias)
        y = x.new_empty(x.shape[0], self.pattern.n_out)
        cuda_module.load().blocks_forward(
            *self.head(x),
            x.data_ptr(),
            _step(x),
            weight.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            relu,
            y.data_ptr(),
            x.shape[0],
        )
        return y

    def grad_input(self, grad_y: Tensor, weight: Tensor) -> Tensor:
        grad_y, weight = _rows(grad_y), aligned(weight)
        grad_x = grad_y.new_empty(grad_y.shape[0], self.pattern.n_in)
        cuda_module.load().blocks_grad_input(
            *self.head(grad_y),
            grad_y.data_ptr(),
            _step(grad_y),
            weight.data_ptr(),
            grad_x.data_ptr(),
            grad_y.shape[0],
        )
        return grad_x

    def backward(
        self, grad_y: Tensor, x: Tensor, weight: Tensor | None, bias: bool
    ) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """Return the gradients in x, for which it takes the weight, in the weight and the bias."""
        batch = x.shape[0]
        grad_y, x = _rows(grad_y), _rows(x)
        weight = None if weight is None else aligned(weight)
        grad_weight = x.new_empty(self.pattern.weight_shape)
        grad_x = None if weight is None else x.new_empty(batch, self.pattern.n_in)
        grad_bias = x.new_empty(self.pattern.n_out) if bias else None
        size = cuda_module.load().blocks_workspace_bytes(self.multiprocessors, self.blocks, batch)
        workspace = x.new_empty(size, dtype=torch.uint8)
        cuda_module.load().blocks_backward(
            *self.head(x),
            grad_y.data_ptr(),
            _step(grad_y),
            x.data_ptr(),
            _step(x),
            0 if weight is None else weight.data_ptr(),
            0 if grad_x is None else grad_x.data_ptr(),
            grad_weight.data_ptr(),
            0 if grad_bias is None else grad_bias.data_ptr(),
            workspace.data_ptr(),
            batch,
        )
        return grad_x, grad_weight, grad_bias


def _plan(pattern: Pattern, device: torch.device) -> _Plan:
    return pattern.plan(
        ("cuda_blocks", str(device)),
        lambda: _Plan(pattern, device, _properties(str(device))[1]),
    )


@cache
def _properties(device: str) -> tuple[int, int]:
    """Compute capability, ten times, and multiprocessors."""
    capability, multiprocessors, *_ = cuda_module.load().properties(torch.device(device).index or 0)
    return capability, multiprocessors


def _rows(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy, with features side by side and aligned samples."""
    tensor, step = plain(tensor), _step(tensor)
    regular_steps = tensor.stride(1) == 1 and step >= tensor.shape[1]
    places = (tensor.data_ptr(), step * tensor.element_size())
    if regular_steps and all(place % ALIGNMENT_BYTES == 0 for place in places):
        return tensor
    return aligned(tensor)


def _step(tensor: Tensor) -> int:
    # the stride of a dimension of size one means nothing
    return int(tensor.stride(0)) if tensor.shape[0] > 1 else int(tensor.shape[1])


def self_check(device: torch.device | str) -> str | None:
    """Why the kernels are not fit for a device: its age, or how they differ from the oracle.

    Each kernel runs with few multiprocessors, so that each takes several units of work, and one
    launch takes all that there are. Integers are so small that every order of summation gives the
    same result.
    """
    capability, multiprocessors = _properties(str(device))
    if capability != HOPPER:
        return f"{device} has compute capability {capability / 10}; these kernels are made for 9.0"
    for pattern, used, batch in _checked(multiprocessors):
        for dtype in DTYPES:
            difference = _difference(_Plan(pattern, device, used), dtype, batch, device)
            if difference is not None:
                return f"{difference} of {pattern!r} in {dtype} differs from the oracle on {device}"
    return None


def _checked(multiprocessors: int) -> Iterator[tuple[Pattern, int, int]]:
    """Return patterns, each with multiprocessors and a batch."""
    # so many rows that no launch has a block for each and keeps most multiprocessors busy
    many = next(n for n in count(2) if multiprocessors // n * n < multiprocessors * 7 // 8)
    for block in BLOCKS:
        # weights that stay on chip; out-degrees past what registers hold; weights that stream, of
        # three panels of samples, where clusters take two; and the whole device
        for rows, columns, slots, used, batch in (
            (4, 4, 2, 4, 300),
            (10, 2, 2, 4, 300),
            (5, 5, 2, 4, 520),
            (many, many, 2, multiprocessors, 300),
        ):
            sizes = {"n_in": columns * block, "n_out": rows * block, "fan_in": slots * block}
            yield regular(**sizes, block=block, seed=0), used, batch


def _difference(
    plan: _Plan, dtype: torch.dtype, batch: int, device: torch.device | str
) -> str | None:
    pattern = plan.pattern
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        numbers = torch.tensor([-2, -1, 1, 2], dtype=dtype)
        return numbers[torch.randint(0, 4, shape, generator=generator)].to(device)

    x, grad_y = draw(batch, pattern.n_in), draw(batch, pattern.n_out)
    weight, bias = draw(*pattern.weight_shape), draw(pattern.n_out)
    y = plan.forward(x, weight, bias, relu=True)
    grads = plan.backward(grad_y, x, weight, bias=True)
    wide_x, wide_weight, wide_bias, wide_grad = (t.double() for t in (x, weight, bias, grad_y))
    expected = {
        "forward": reference.forward(wide_x, wide_weight, wide_bias, pattern, relu=True),
        "grad_x": reference.grad_input(wide_grad, wide_weight, pattern),
        "grad_weight": reference.grad_weight(wide_grad, wide_x, pattern),
        "grad_bias": wide_grad.sum(0),
    }
    for result, (name, exact) in zip((y, *grads), expected.items(), strict=True):
        if result is None or not torch.equal(result, exact.to(dtype)):
            return name
    return None

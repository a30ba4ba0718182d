"""Forward, and grad_input as its transpose: owned = gathered times the weights of the edges.

for each tile of an owned block, and each tile of tokens:   sum over its depth   -> bias, ReLU
`streamed` walks through the depth and loads weights beside activations; `resident` keeps the whole
panel [depth, WIDTH] of weights on chip and streams the tokens of its part of the batch past it.
Names are those of the package; `accumulator` is [TOKENS, WIDTH] in float32.
"""

import triton
import triton.language as tl

from dnc_sparse.kernels.edges import gather


# one kernel for all batches, not another for those that 16 divides
@triton.jit(do_not_specialize=["batch"])
def streamed(
    gathered,
    weight,
    bias,
    owned,
    table,
    batch,
    gathered_stride,
    owned_stride,
    SIDE: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
):
    TILES: tl.constexpr = SIDE.blocks * SIDE.owned_width // WIDTH
    # neighbouring programs share their tokens, so that these stay in L2
    tile = tl.program_id(0) % TILES
    token = (tl.program_id(0) // TILES).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    neuron = tile * WIDTH + tl.arange(0, WIDTH)
    block = tile * WIDTH // SIDE.owned_width
    across = (neuron % SIDE.owned_width) * SIDE.weight_stride
    step = tl.arange(0, DEPTH)
    accumulator = tl.zeros((TOKENS, WIDTH), tl.float32)
    # addresses are found a step ahead: a table's entry is there when its copies are to start
    column, offset, exists = gather(block, step, table, SIDE)
    for depth in range(0, SIDE.depth, DEPTH):
        a = gathered + token[:, None] * gathered_stride + column[None, :]
        b = weight + offset[:, None] + across[None, :]
        if SIDE.full and SIDE.depth % DEPTH == 0:
            left = tl.load(a, mask=token[:, None] < batch, other=0.0)
            right = tl.load(b)
        else:
            left = tl.load(a, mask=(token[:, None] < batch) & exists[None, :], other=0.0)
            right = tl.load(b, mask=exists[:, None], other=0.0)
        column, offset, exists = gather(block, depth + DEPTH + step, table, SIDE)
        accumulator = tl.dot(left, right, accumulator, input_precision=PRECISION)
    shift = _shift(bias, neuron)
    _finish(accumulator, shift, owned, token, neuron, batch, owned_stride, RELU)


@triton.jit(do_not_specialize=["batch", "chunk"])
def resident(
    gathered,
    weight,
    bias,
    owned,
    table,
    batch,
    gathered_stride,
    owned_stride,
    chunk,
    SIDE: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Here DEPTH covers the whole depth, and a part of the batch has `chunk` tokens."""
    TILES: tl.constexpr = SIDE.blocks * SIDE.owned_width // WIDTH
    WHOLE: tl.constexpr = SIDE.full and SIDE.depth == DEPTH
    tile = tl.program_id(0) % TILES
    first = (tl.program_id(0) // TILES).to(tl.int64) * chunk
    neuron = tile * WIDTH + tl.arange(0, WIDTH)
    across = (neuron % SIDE.owned_width) * SIDE.weight_stride
    column, offset, exists = gather(
        tile * WIDTH // SIDE.owned_width, tl.arange(0, DEPTH), table, SIDE
    )
    b = weight + offset[:, None] + across[None, :]
    right = tl.load(b) if WHOLE else tl.load(b, mask=exists[:, None], other=0.0)
    shift = _shift(bias, neuron)
    for start in range(0, chunk, TOKENS):
        token = first + start + tl.arange(0, TOKENS)
        a = gathered + token[:, None] * gathered_stride + column[None, :]
        here = token[:, None] < batch
        left = tl.load(a, mask=here if WHOLE else here & exists[None, :], other=0.0)
        product = multiply(left, right, PRECISION)
        _finish(product, shift, owned, token, neuron, batch, owned_stride, RELU)


@triton.jit
def multiply(left, right, PRECISION: tl.constexpr):
    """Return left [tokens, depth] times right [depth, width], the larger side first.

    Hopper's matrix instructions want 64 rows on their first side, at least 8 on the other.
    """
    if left.shape[0] < 64 and right.shape[1] >= 64:
        product = tl.trans(tl.dot(tl.trans(right), tl.trans(left), input_precision=PRECISION))
    else:
        product = tl.dot(left, right, input_precision=PRECISION)
    return product


@triton.jit
def _shift(bias, neuron):
    """Return what is added to every token: the bias in float32, or zero."""
    if bias is None:
        shift = tl.zeros((1, neuron.shape[0]), tl.float32)
    else:
        shift = tl.load(bias + neuron).to(tl.float32)[None, :]
    return shift


@triton.jit
def _finish(product, shift, owned, token, neuron, batch, owned_stride, RELU: tl.constexpr):
    """Add the bias, apply ReLU (NaN stays), round once and store."""
    product += shift
    if RELU:
        product = tl.where(product < 0, 0.0, product)
    target = owned + token[:, None] * owned_stride + neuron[None, :]
    tl.store(target, product.to(owned.dtype.element_ty), mask=token[:, None] < batch)

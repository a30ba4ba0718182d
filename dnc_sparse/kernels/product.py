"""Forward, and grad_input as its transpose: owned = gathered times the weights of the edges.

for each tile of an owned block, and each tile of tokens:   sum over its depth   -> bias, ReLU
`streamed` walks through the depth and loads weights beside activations; `resident` keeps the whole
panel [depth, WIDTH] of weights on chip and streams the tokens of its part of the batch past it.
Names are those of the package; `accumulator` is [TOKENS, WIDTH] in float32.
"""

import triton
import triton.language as tl

from dnc_sparse.kernels.edges import gather, own_stride


@triton.jit
def streamed(
    gathered,
    weight,
    bias,
    owned,
    table,
    batch,
    gathered_stride,
    owned_stride,
    OWNED_BLOCKS: tl.constexpr,
    OWN: tl.constexpr,
    FAR: tl.constexpr,
    SLOTS: tl.constexpr,
    DEGREE: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    RULE: tl.constexpr,
    FULL: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
):
    TILES: tl.constexpr = OWNED_BLOCKS * OWN // WIDTH
    # neighbouring programs share their tokens, so that these stay in L2
    tile = tl.program_id(0) % TILES
    token = (tl.program_id(0) // TILES).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    neuron = tile * WIDTH + tl.arange(0, WIDTH)
    block = tile * WIDTH // OWN
    across = (neuron % OWN) * own_stride(FAR, TRANSPOSED)
    step = tl.arange(0, DEPTH)
    accumulator = tl.zeros((TOKENS, WIDTH), tl.float32)
    # addresses are found a step ahead: a table's entry is there when its copies are to start
    far, offset, exists = gather(block, step, table, OWN, FAR, SLOTS, DEGREE, TRANSPOSED, RULE)
    for depth in range(0, DEGREE * FAR, DEPTH):
        a = gathered + token[:, None] * gathered_stride + far[None, :]
        b = weight + offset[:, None] + across[None, :]
        if FULL and DEGREE * FAR % DEPTH == 0:
            left = tl.load(a, mask=token[:, None] < batch, other=0.0)
            right = tl.load(b)
        else:
            left = tl.load(a, mask=(token[:, None] < batch) & exists[None, :], other=0.0)
            right = tl.load(b, mask=exists[:, None], other=0.0)
        far, offset, exists = gather(
            block, depth + DEPTH + step, table, OWN, FAR, SLOTS, DEGREE, TRANSPOSED, RULE
        )
        accumulator = tl.dot(left, right, accumulator, input_precision=PRECISION)
    _finish(accumulator, bias, owned, token, neuron, batch, owned_stride, RELU)


@triton.jit
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
    OWNED_BLOCKS: tl.constexpr,
    OWN: tl.constexpr,
    FAR: tl.constexpr,
    SLOTS: tl.constexpr,
    DEGREE: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    RULE: tl.constexpr,
    FULL: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Here DEPTH covers the whole depth, and a part of the batch has `chunk` tokens."""
    TILES: tl.constexpr = OWNED_BLOCKS * OWN // WIDTH
    WHOLE: tl.constexpr = FULL and DEGREE * FAR == DEPTH
    tile = tl.program_id(0) % TILES
    first = (tl.program_id(0) // TILES).to(tl.int64) * chunk
    neuron = tile * WIDTH + tl.arange(0, WIDTH)
    across = (neuron % OWN) * own_stride(FAR, TRANSPOSED)
    far, offset, exists = gather(
        tile * WIDTH // OWN,
        tl.arange(0, DEPTH),
        table,
        OWN,
        FAR,
        SLOTS,
        DEGREE,
        TRANSPOSED,
        RULE,
    )
    b = weight + offset[:, None] + across[None, :]
    right = tl.load(b) if WHOLE else tl.load(b, mask=exists[:, None], other=0.0)
    for start in range(0, chunk, TOKENS):
        token = first + start + tl.arange(0, TOKENS)
        a = gathered + token[:, None] * gathered_stride + far[None, :]
        here = token[:, None] < batch
        left = tl.load(a, mask=here if WHOLE else here & exists[None, :], other=0.0)
        accumulator = tl.dot(left, right, input_precision=PRECISION)
        _finish(accumulator, bias, owned, token, neuron, batch, owned_stride, RELU)


@triton.jit
def _finish(accumulator, bias, owned, token, neuron, batch, owned_stride, RELU: tl.constexpr):
    """Add the bias, apply ReLU (NaN stays), round once and store."""
    if bias is not None:
        accumulator += tl.load(bias + neuron).to(tl.float32)[None, :]
    if RELU:
        accumulator = tl.where(accumulator < 0, 0.0, accumulator)
    target = owned + token[:, None] * owned_stride + neuron[None, :]
    tl.store(target, accumulator.to(owned.dtype.element_ty), mask=token[:, None] < batch)

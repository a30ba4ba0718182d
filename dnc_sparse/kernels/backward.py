"""The weights' gradient, and in the same pass over grad_y those of the input and of the bias.

for each part of the batch, each tile of an owned block, each tile of its depth:
    weight panel [DEPTH, WIDTH] on chip            (with GRAD_INPUT)
    for each tile of the part's tokens:
        gather it once [TOKENS, DEPTH], load the owned tile [TOKENS, WIDTH]
        grad_weight [DEPTH, WIDTH] += gathered^T owned     (float32, in registers)
        grad_input [TOKENS, WIDTH]  = gathered panel       (with GRAD_INPUT: gathered is grad_y)
        grad_bias [BIAS] += an equal share of grad_y's columns  (with BIAS)
Names are those of the package. With GRAD_INPUT programs own block columns and DEPTH covers the
whole depth; without it they may own block rows too: gathered is x then, owned is grad_y.
A part's sums go to a separate copy of the results, and `total` adds the copies in their order.
"""

import triton
import triton.language as tl

from dnc_sparse.kernels.edges import gather
from dnc_sparse.kernels.product import multiply


@triton.jit(do_not_specialize=["batch", "chunk"])
def backward(
    gathered,
    owned,
    weight,
    grad_y,
    grad_input,
    grad_weight,
    grad_bias,
    table,
    batch,
    gathered_stride,
    owned_stride,
    grad_y_stride,
    chunk,
    n_out,
    n_weights,
    SIDE: tl.constexpr,
    GRAD_INPUT: tl.constexpr,
    BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
):
    TILES: tl.constexpr = SIDE.blocks * SIDE.owned_width // WIDTH
    DEPTHS: tl.constexpr = (SIDE.depth + DEPTH - 1) // DEPTH
    WHOLE: tl.constexpr = SIDE.full and SIDE.depth == DEPTH * DEPTHS
    unit = tl.program_id(0) % (TILES * DEPTHS)
    part = (tl.program_id(0) // (TILES * DEPTHS)).to(tl.int64)
    tile = unit % TILES
    neuron = tile * WIDTH + tl.arange(0, WIDTH)
    across = (neuron % SIDE.owned_width) * SIDE.weight_stride
    column, offset, exists = gather(
        tile * WIDTH // SIDE.owned_width, unit // TILES * DEPTH + tl.arange(0, DEPTH), table, SIDE
    )
    if GRAD_INPUT:
        edge = weight + offset[:, None] + across[None, :]
        panel = tl.load(edge) if WHOLE else tl.load(edge, exists[:, None], 0.0)
    sums = tl.zeros((DEPTH, WIDTH), tl.float32)
    if BIAS > 0:
        # any equal share would do: these columns need not be the gathered ones
        share = unit * BIAS + tl.arange(0, BIAS)
        # added up over tokens at the end, for that takes barriers
        bias_sums = tl.zeros((TOKENS, BIAS), tl.float32)
    for start in range(0, chunk, TOKENS):
        token = part * chunk + start + tl.arange(0, TOKENS)
        here = token[:, None] < batch
        spread = tl.load(
            gathered + token[:, None] * gathered_stride + column[None, :],
            mask=here if WHOLE else here & exists[None, :],
            other=0.0,
        )
        tile_owned = tl.load(owned + token[:, None] * owned_stride + neuron[None, :], here, 0.0)
        if BIAS > 0:
            # it arrives while the products run
            summand = grad_y + token[:, None] * grad_y_stride + share[None, :]
            summand = tl.load(summand, here & (share[None, :] < n_out), 0.0)
        # the other way round, the compiler waits after each matrix instruction (ptxas C7515)
        sums = tl.dot(tl.trans(spread), tile_owned, sums, input_precision=PRECISION)
        if GRAD_INPUT:
            result = multiply(spread, panel, PRECISION)
            target = (
                grad_input + token[:, None] * (SIDE.blocks * SIDE.owned_width) + neuron[None, :]
            )
            tl.store(target, result.to(grad_input.dtype.element_ty), mask=here)
        if BIAS > 0:
            bias_sums += summand.to(tl.float32)
    # not `edge`, whose addresses would be kept in registers for as long as the loop runs
    target = grad_weight + part * n_weights + offset[:, None] + across[None, :]
    value = sums.to(grad_weight.dtype.element_ty)
    if WHOLE:
        tl.store(target, value)
    else:
        tl.store(target, value, mask=exists[:, None])
    if BIAS > 0:
        value = tl.sum(bias_sums, axis=0).to(grad_bias.dtype.element_ty)
        tl.store(grad_bias + part * n_out + share, value, mask=share < n_out)


@triton.jit
def total(parts, result, size, PARTS: tl.constexpr, WIDTH: tl.constexpr):
    """Add PARTS copies of `size` float32 numbers in their order, and round once."""
    place = tl.program_id(0).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
    sums = tl.zeros((WIDTH,), tl.float32)
    for part in range(PARTS):
        sums += tl.load(parts + part * size.to(tl.int64) + place, mask=place < size, other=0.0)
    tl.store(result + place, sums.to(result.dtype.element_ty), mask=place < size)

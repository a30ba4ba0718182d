"""Where the edges of one block row, or of one block column, lie."""

# Triton wants its constants in capitals, which are not types
import triton
import triton.language as tl


@triton.jit
def gather(block, depth, table, SIDE: tl.constexpr):
    """Return for each `depth` its gathered neuron, its weights' first offset, and whether it is.

    A weight of owned neuron i lies at the offset plus `i * SIDE.weight_stride`.
    """
    place = depth // SIDE.gathered_width
    inner = depth % SIDE.gathered_width
    if SIDE.transposed:
        flat = _target(block, place, table, SIDE)
        neighbour = flat // SIDE.slots
        exists = flat >= 0
        offset = (
            flat.to(tl.int64) * (SIDE.owned_width * SIDE.gathered_width) + inner * SIDE.owned_width
        )
    else:
        neighbour = _source(block, place, table, SIDE)
        exists = neighbour >= 0
        offset = (block * SIDE.slots + place).to(tl.int64) * (
            SIDE.owned_width * SIDE.gathered_width
        ) + inner
    # neighbours of a block are neighbours in memory, which a loaded index hides from the compiler
    RUN: tl.constexpr = min(SIDE.gathered_width, depth.shape[0])
    neuron = tl.max_contiguous(tl.multiple_of(neighbour * SIDE.gathered_width + inner, RUN), RUN)
    return neuron, offset, exists


@triton.jit
def _source(row, place, table, SIDE: tl.constexpr):
    """Return the left block of a row's slot, -1 if empty."""
    if SIDE.rule is None:
        source = tl.load(table + row * SIDE.degree + place, mask=place < SIDE.degree, other=-1)
    else:
        bank = place // SIDE.rule.width
        step = place % SIDE.rule.width
        start, wrapped = _start(row, bank, table, SIDE)
        step = tl.where(step < wrapped, step, start + step - wrapped)
        source = tl.where(place < SIDE.degree, bank * SIDE.rule.depth + step, -1)
    return source


@triton.jit
def _target(column, place, table, SIDE: tl.constexpr):
    """Return the flat slot of a column's edge, -1 if empty."""
    if SIDE.rule is None:
        target = tl.load(table + column * SIDE.degree + place, mask=place < SIDE.degree, other=-1)
    else:
        bank = column // SIDE.rule.depth
        address = column % SIDE.rule.depth
        # sweep `place` reads each address of the bank once, this one so long after its first
        first = place * SIDE.rule.depth
        wait = (address - _address(first, bank, table, SIDE) + SIDE.rule.depth) % SIDE.rule.depth
        row = (first + wait) // SIDE.rule.width
        start, wrapped = _start(row, bank, table, SIDE)
        step = tl.where(address < wrapped, address, address - start + wrapped)
        target = tl.where(place < SIDE.degree, row * SIDE.slots + bank * SIDE.rule.width + step, -1)
    return target


@triton.jit
def _start(row, bank, seeds, SIDE: tl.constexpr):
    """Return the address at which a row begins to read a bank, and how many pass its end."""
    start = _address(row * SIDE.rule.width, bank, seeds, SIDE)
    return start, tl.maximum(start + SIDE.rule.width - SIDE.rule.depth, 0)


@triton.jit
def _address(cycle, bank, seeds, SIDE: tl.constexpr):
    """Return the address that a bank reads in a cycle: `patterns.banked.CyclicRule.address`."""
    slope, offset, slope_step, offset_step = seeds
    sweep = cycle // SIDE.rule.depth
    # reduced first, for the sum stays below the number of blocks then
    slope = (slope + sweep * slope_step) % SIDE.rule.depth
    offset = (offset + sweep * offset_step) % SIDE.rule.depth
    return (slope * bank + offset + cycle % SIDE.rule.depth) % SIDE.rule.depth

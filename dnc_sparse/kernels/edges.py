"""Where the edges of one block row, or of one block column, lie."""

# Triton wants its constants in capitals, which are not types
import triton
import triton.language as tl


@triton.jit
def gather(
    block,
    depth,
    table,
    OWN: tl.constexpr,
    FAR: tl.constexpr,
    SLOTS: tl.constexpr,
    DEGREE: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    RULE: tl.constexpr,
):
    """Return for each `depth` its gathered neuron, its weights' first offset, and whether it is.

    A weight of owned neuron i lies at the offset plus `i * own_stride(...)`.
    """
    place = depth // FAR
    inner = depth % FAR
    if TRANSPOSED:
        flat = _target(block, place, table, SLOTS, DEGREE, RULE)
        far = flat // SLOTS
        exists = flat >= 0
        offset = flat.to(tl.int64) * (OWN * FAR) + inner * OWN
    else:
        far = _source(block, place, table, DEGREE, RULE)
        exists = far >= 0
        offset = (block * SLOTS + place).to(tl.int64) * (OWN * FAR) + inner
    # neighbours of a block are neighbours in memory, which a loaded index hides from the compiler
    RUN: tl.constexpr = min(FAR, depth.shape[0])
    neuron = tl.max_contiguous(tl.multiple_of(far * FAR + inner, RUN), RUN)
    return neuron, offset, exists


@triton.jit
def own_stride(FAR: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Return how far apart the weights of two neighbouring owned neurons lie."""
    return 1 if TRANSPOSED else FAR


@triton.jit
def _source(row, place, table, DEGREE: tl.constexpr, RULE: tl.constexpr):
    """Return the left block of a row's slot, -1 if empty."""
    if RULE is None:
        source = tl.load(table + row * DEGREE + place, mask=place < DEGREE, other=-1)
    else:
        bank = place // RULE[1]
        step = place % RULE[1]
        start, wrapped = _start(row, bank, table, RULE)
        step = tl.where(step < wrapped, step, start + step - wrapped)
        source = tl.where(place < DEGREE, bank * RULE[0] + step, -1)
    return source


@triton.jit
def _target(column, place, table, SLOTS: tl.constexpr, DEGREE: tl.constexpr, RULE: tl.constexpr):
    """Return the flat slot of a column's edge, -1 if empty."""
    if RULE is None:
        target = tl.load(table + column * DEGREE + place, mask=place < DEGREE, other=-1)
    else:
        bank = column // RULE[0]
        address = column % RULE[0]
        # sweep `place` reads each address of the bank once, this one so long after its first
        first = place * RULE[0]
        wait = (address - _address(first, bank, table, RULE) + RULE[0]) % RULE[0]
        row = (first + wait) // RULE[1]
        start, wrapped = _start(row, bank, table, RULE)
        step = tl.where(address < wrapped, address, address - start + wrapped)
        target = tl.where(place < DEGREE, row * SLOTS + bank * RULE[1] + step, -1)
    return target


@triton.jit
def _start(row, bank, seeds, RULE: tl.constexpr):
    """Return the address at which a row begins to read a bank, and how many pass its end."""
    start = _address(row * RULE[1], bank, seeds, RULE)
    return start, tl.maximum(start + RULE[1] - RULE[0], 0)


@triton.jit
def _address(cycle, bank, seeds, RULE: tl.constexpr):
    """Return the address that a bank reads in a cycle: `patterns.banked.CyclicRule.address`."""
    slope, offset, slope_step, offset_step = seeds
    sweep = cycle // RULE[0]
    # reduced first, for the sum stays below the number of blocks then
    slope = (slope + sweep * slope_step) % RULE[0]
    offset = (offset + sweep * offset_step) % RULE[0]
    return (slope * bank + offset + cycle % RULE[0]) % RULE[0]

"""A complexity of your own for the search: clocks in which an FPGA trains on one input.

With this folder on PYTHONPATH, `search_fpga_cost:clocks_per_input` is a measure of `dnc_search`.
"""

from collections.abc import Sequence
from itertools import islice, product
from math import ceil, inf

import torch
from torch import nn

from dnc_hw import DEVICES, FixedPoint, Machine
from dnc_search.parameters import Config
from dnc_search.space import Shape
from dnc_sparse import Pattern, SparseLinear, SparseMLP
from dnc_sparse.patterns import from_mask

DEVICE = DEVICES["xc7a35t"]
NUMBER = FixedPoint(integer_bits=3, fraction_bits=8)
# multipliers of a lane; the first junction has no junction before it to pass errors back to
DSP_PER_LANE, DSP_NOT_IN_FIRST = 3, 2
# clocks of a cycle in which no edge is begun
FLUSH = 2
# machines to build for one network, a few hundredths of a second each
TRIES = 20


def clocks_per_input(config: Config, shape: Shape, model: nn.Module) -> float:
    """Return the clocks of a junction cycle, with the best lanes found that fit the device.

    Raises ValueError for a network that is no chain of junctions, or that no lanes can serve.
    """
    patterns = [_pattern(layer) for layer in model.modules() if not list(layer.children())]
    junctions = [pattern for pattern in patterns if pattern is not None]
    if not junctions:
        raise ValueError("the network has no junction")
    best, reason = inf, f"the {DEVICE.dsp} DSP of {DEVICE.name} are too few"
    for least, lanes in islice(_fastest_first(junctions), TRIES):
        if least >= best:
            break
        try:
            machine = Machine.from_patterns(
                junctions, lanes, NUMBER, hazards="stall", winner_skips_last_clock=False
            )
        except ValueError as error:
            reason = str(error)
            continue
        # more than `least` where reads of one memory clash
        best = min(best, machine.cycle_clocks)
    if best == inf:
        raise ValueError(f"no lanes serve {junctions}: {reason}")
    return best


def _pattern(layer: nn.Module) -> Pattern | None:
    """Return the edges of a junction, None for a module without parameters."""
    match layer:
        case SparseLinear():
            pattern = layer.pattern
            # the machine's unit of work is one edge
            return pattern if pattern.block == (1, 1) else from_mask(pattern.mask())
        case nn.Linear():
            return from_mask(torch.ones(layer.out_features, layer.in_features, dtype=torch.bool))
        case _ if list(layer.parameters()):
            raise ValueError(f"the machine has no {type(layer).__name__}")
    return None


def _fastest_first(junctions: Sequence[Pattern]) -> list[tuple[int, tuple[int, ...]]]:
    """Return the lanes that fit the device, each after the clocks that it takes at least."""
    choices = product(*map(_lanes, junctions))
    return sorted(
        (max(ceil(p.n_edges / n) for p, n in zip(junctions, lanes, strict=True)) + FLUSH, lanes)
        for lanes in choices
        if sum(lanes) * DSP_PER_LANE - lanes[0] * DSP_NOT_IN_FIRST <= DEVICE.dsp
    )


def _lanes(pattern: Pattern) -> list[int]:
    banks = pattern.spec.get("banks")
    if banks is not None:
        # the order of its edges is made for these
        return [banks]
    return [n for n in range(1, pattern.n_in + 1) if pattern.n_in % n == 0]


if __name__ == "__main__":
    shape = Shape(n_features=64, n_outputs=8)
    networks = {
        "dense": SparseMLP((64, 32, 8), 1.0),
        "a quarter of the edges, regular": SparseMLP((64, 32, 8), 0.25, family="regular", block=1),
        "a quarter of the edges, clash-free": nn.Sequential(
            SparseLinear(
                64, 32, 0.25, family="clash_free", banks=32, bank_map="interleaved", relu=True
            ),
            SparseLinear(32, 8, 0.25, family="clash_free", banks=4, bank_map="interleaved"),
        ),
    }
    for name, network in networks.items():
        print(f"{name}: {clocks_per_input({}, shape, network):.0f} clocks per input")

"""Random machines and stimuli that the tests of the model and the engine share."""

from __future__ import annotations

from itertools import pairwise
from math import gcd

import numpy as np
from hypothesis import strategies as st

from dnc_hw.fixed_point import FixedPoint, Ints
from dnc_hw.machine import Machine
from dnc_hw.trace import Parameters, Pixels
from dnc_sparse.patterns import Pattern, clash_free, cyclic, from_mask, random, regular


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Draw a machine of any size, pattern family, lanes, format, depth and policy that is legal."""
    junctions = draw(st.integers(1, 4))
    layers = [draw(st.integers(2, 14)) for _ in range(junctions + 1)]
    patterns, lanes = [], []
    for n_in, n_out in pairwise(layers):
        pattern, its_lanes = draw(junction_patterns(n_in, n_out, at_least=1))
        patterns.append(pattern)
        lanes.append(its_lanes)
    number = FixedPoint(
        draw(st.integers(1, 5)),
        draw(st.integers(3, 12) | st.integers(13, 20)),
        rounds_after_clip=draw(st.booleans()),
    )
    options = {
        "pipeline_clocks": draw(st.integers(0, 4)),
        "hazards": draw(st.sampled_from(["stall", "forward", "emulate"])),
        "hidden_activation": draw(st.sampled_from(["sigmoid", "relu"])),
        "winner_skips_last_clock": draw(st.booleans()),
    }
    try:
        return Machine.from_patterns(patterns, lanes, number, **options)
    except ValueError:
        # fewer interleaved lanes absorb more; one lane absorbs anything
        patterns = [from_mask(pattern.mask()) for pattern in patterns]
        options["winner_skips_last_clock"] = False
    while True:
        try:
            return Machine.from_patterns(patterns, lanes, number, **options)
        except ValueError:
            assert max(lanes) > 1
            lanes = [(count + 1) // 2 for count in lanes]


@st.composite
def junction_patterns(draw: st.DrawFn, n_in: int, n_out: int, at_least: int) -> tuple[Pattern, int]:
    """Draw a pattern in which every right neuron has an edge, and lanes for it."""
    family = draw(st.sampled_from(["clash_free", "cyclic", "regular", "random"]))
    seed = draw(st.integers(0, 1000))
    step = n_in // gcd(n_in, n_out)
    if family in ("clash_free", "cyclic"):
        fan_in = step * draw(st.integers(1, n_in // step))
        divisors = [d for d in range(at_least, n_in + 1) if n_in % d == 0]
        if family == "cyclic":
            divisors = [d for d in divisors if fan_in % d == 0]
            banks = draw(st.sampled_from(divisors))
            return cyclic(n_in, n_out, fan_in=fan_in, banks=banks, seed=seed), banks
        banks = draw(st.sampled_from(divisors))
        choice = {
            "kind": draw(st.integers(1, 3)),
            "dither": draw(st.booleans()),
            "bank_map": draw(st.sampled_from(["interleaved", "interleaved", "blocked"])),
        }
        return clash_free(n_in, n_out, fan_in=fan_in, banks=banks, seed=seed, **choice), banks
    if family == "regular":
        pattern = regular(n_in, n_out, fan_in=draw(st.integers(1, n_in)), seed=seed)
    else:
        mask = random(n_in, n_out, density=draw(st.floats(0.1, 1)), seed=seed).mask()
        mask[np.arange(n_out), np.arange(n_out) % n_in] = True
        pattern = from_mask(mask)
    return pattern, draw(st.integers(at_least, pattern.n_edges))


def random_parameters(machine: Machine, seed: int, scale: float = 1.0) -> Parameters:
    """Draw words uniformly from the share `scale` of the format's range."""
    rng = np.random.default_rng(seed)
    top = max(int(machine.number.largest * scale), 1)

    def draw(count: int) -> Ints:
        return rng.integers(-top, top, count, endpoint=True)

    return Parameters(
        tuple(draw(order.n_edges) for order in machine.orders),
        tuple(draw(order.n_out) for order in machine.orders),
    )


def random_stimuli(machine: Machine, count: int, seed: int) -> tuple[Pixels, Ints, Ints]:
    """Draw pixels, labels (some none) and learning-rate codes (some 0)."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, machine.n_in), dtype=np.uint8)
    labels = rng.integers(-1, machine.n_out, count)
    codes = rng.integers(0, machine.number.fraction_bits + 1, count, endpoint=True)
    return pixels, labels, codes

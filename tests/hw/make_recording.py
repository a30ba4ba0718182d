"""Write tests/hw/small.npz: a recording of our own in the format of those of the published design.

    python tests/hw/make_recording.py

Its values come from `naive.py`. The network is small and hard on the arithmetic: a pipeline that
loses partial deltas, random start addresses, a ReLU layer, rates that change, large weights.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from hw.naive import Naive

FILE = Path(__file__).with_name("small.npz")
INPUTS = 60


def record(naive: Naive, inputs: int, seed: int) -> dict[str, Any]:
    """Run random stimuli and return the arrays of a recording."""
    rng = np.random.default_rng(seed)
    last, outputs = naive.junctions, naive.layers[-1]
    cycles = inputs + 2 * last
    pixels = rng.integers(0, 256, (inputs, naive.layers[0]), dtype=np.uint8)
    labels = rng.integers(0, outputs, inputs)
    codes = rng.integers(0, naive.fraction + 2, inputs)
    arrays: dict[str, Any] = {
        "layers": naive.layers,
        "fan_out": naive.fan_out,
        "fan_in": [naive.fan_in(i) for i in range(1, last + 1)],
        "z": naive.z,
        "C": naive.clocks - 2 - naive.depth,
        "P": naive.depth,
        "clocks_per_junction_cycle": naive.clocks,
        "fixed_point": [1, naive.integer, naive.fraction],
        "clocks_observed": [naive.clocks],
        "relu_hidden": int(naive.relu),
        "inputs": pixels,
        "labels": labels,
        "etapos": codes,
    }
    for i in range(1, last + 1):
        left = naive.left(i)
        arrays |= {f"left{i}": left, f"right{i}": np.arange(len(left)) // naive.fan_in(i)}
        arrays |= {f"w{i}_init": list(naive.w[i - 1]), f"b{i}_init": list(naive.b[i - 1])}
    arrays |= _tables(naive)
    snapshots = []
    for t in range(cycles):
        there = t < inputs
        target = [int(there and labels[t] == j) for j in range(outputs)]
        image = pixels[t].tolist() if there else [0] * naive.layers[0]
        naive.cycle(t, image, target, int(codes[t]) if there else 0)
        snapshots.append([list(v) for v in (*naive.w, *naive.b)])
    for i in range(1, last + 1):
        arrays[f"snap_w{i}"] = [s[i - 1] for s in snapshots]
        arrays[f"snap_b{i}"] = [s[last + i - 1] for s in snapshots]
        update = 2 * last + 1 - i
        arrays[f"act{i}"] = _rows(naive.a, i, i, cycles)
        if i < last:
            arrays[f"dact{i}"] = _rows(naive.slope, i, i, cycles)
        arrays[f"delta{i}_used"] = _rows(naive.delta, i, update, cycles)
        arrays[f"etapos_used_j{i}"] = np.concatenate([np.zeros(update), codes, [0] * 2 * last])[
            :cycles
        ]
    arrays["snap_count"] = np.arange(1, cycles + 1)
    arrays[f"delta{last}"] = _rows(naive.delta, last, last, cycles)
    winners = np.array([naive.winner(n) for n in range(inputs)])
    arrays["argmax"] = np.concatenate([np.zeros(last), winners, np.zeros(last)])
    arrays["correct"] = winners == labels
    arrays["correct_last1000_at_epoch_end"] = [int((winners == labels).sum())]
    return {name: _smallest(np.asarray(values)) for name, values in arrays.items()}


def hard_network() -> Naive:
    """Draw the recorded network."""
    rng = np.random.default_rng(20261121)
    layers, fan_out, z = [32, 16, 8], [4, 4], [16, 8]
    edges = [n * d for n, d in zip(layers[:-1], fan_out, strict=True)]
    starts = [
        rng.integers(0, n // lanes, (d, lanes)).tolist()
        for n, d, lanes in zip(layers[:-1], fan_out, z, strict=True)
    ]
    w = [rng.integers(-512, 512, count).tolist() for count in edges]
    b = [rng.integers(-512, 512, count).tolist() for count in layers[1:]]
    return Naive(layers, fan_out, z, starts, 2, 7, 2, True, w, b)


def _tables(naive: Naive) -> dict[str, Any]:
    width, one = 1 + naive.integer + naive.fraction, 2**naive.fraction
    domain, entries = min(2**naive.integer, 8), min(2**width, 4096)
    sums = [(2 * k - entries) * domain * one // entries for k in range(entries)]
    looked_up = [naive.activate(s, relu=False) for s in sums]
    return {
        "table_sigma": [value for value, _ in looked_up],
        "table_dsigma": [slope for _, slope in looked_up],
        "table_domain": domain,
    }


def _rows(values: dict[tuple[int, int], list[int]], i: int, delay: int, cycles: int) -> Any:
    width = len(next(v for (layer, _), v in values.items() if layer == i))
    return [values.get((i, t - delay), [0] * width) for t in range(cycles)]


def _smallest(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    whole = values.astype(np.int64)
    for kind in (np.int8, np.uint8, np.int16):
        if np.array_equal(whole.astype(kind), whole):
            return whole.astype(kind)
    return whole.astype(np.int32)


if __name__ == "__main__":
    np.savez_compressed(FILE, **record(hard_network(), INPUTS, seed=1))

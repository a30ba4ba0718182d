"""The published machine once more, one number at a time, to hold the simulators against.

Plain Python integers, no memories and no banks: values are looked up by the input they belong to.
What is kept of the clock is when a partial delta is read and when its write lands. It shares no
code with `dnc_hw`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, floor

Vector = list[int]


@dataclass
class Naive:
    """A network of the published design: z is the number of lanes, starts those of the sweeps."""

    layers: list[int]
    fan_out: list[int]
    z: list[int]
    starts: list[list[list[int]]]
    integer: int
    fraction: int
    depth: int
    relu: bool
    w: list[Vector]
    b: list[Vector]
    a: dict[tuple[int, int], Vector] = field(default_factory=dict)
    slope: dict[tuple[int, int], Vector] = field(default_factory=dict)
    delta: dict[tuple[int, int], Vector] = field(default_factory=dict)
    target: dict[int, Vector] = field(default_factory=dict)
    code: dict[int, int] = field(default_factory=dict)

    @property
    def junctions(self) -> int:
        return len(self.fan_out)

    @property
    def clocks(self) -> int:
        rows = [n * d // z for n, d, z in zip(self.layers[:-1], self.fan_out, self.z, strict=True)]
        assert len(set(rows)) == 1
        return rows[0] + 2 + self.depth

    def left(self, i: int) -> Vector:
        """Left neuron of each edge of junction i (from 1)."""
        n, z = self.layers[i - 1], self.z[i - 1]
        found = []
        for sweep in range(self.fan_out[i - 1]):
            for q in range(n // z):
                for m in range(z):
                    found.append((self.starts[i - 1][sweep][m] + q) % (n // z) * z + m)
        return found

    def fan_in(self, i: int) -> int:
        return self.layers[i - 1] * self.fan_out[i - 1] // self.layers[i]

    def limits(self) -> tuple[int, int]:
        top = 2 ** (self.integer + self.fraction)
        return -top, top - 1

    def clip(self, x: int) -> int:
        low, high = self.limits()
        return low if x < low else high if x > high else x

    def times(self, x: int, y: int) -> int:
        low, high = self.limits()
        product = x * y
        whole, rest = divmod(product, 2**self.fraction)
        bit = 1 if 2 * rest >= 2**self.fraction else 0
        if whole > high:
            whole = high
        if whole < low:
            whole = low
        return whole if whole == high else whole + bit

    def step(self, delta: int, code: int) -> int:
        low, high = self.limits()
        if code == 0:
            return 0
        x = high if delta == low else -delta
        return floor(x / 2 ** (code - 1) + 0.5)

    def activate(self, s: int, relu: bool) -> tuple[int, int]:
        one = 2**self.fraction
        if relu:
            if s <= 0:
                return 1, 1
            return (one - 1, 1) if s >= one else (s, one - 1)
        width = 1 + self.integer + self.fraction
        span, entries = min(2**self.integer, 8), min(2**width, 4096)
        index = floor((s / one + span) * entries / (2 * span))
        if index < 0:
            return 1, 1
        if index >= entries:
            return one - 1, 1
        sigmoid = 1 / (1 + exp(span - 2 * span * index / entries))
        least = 1 if width in (8, 16) else 0
        value = min(max(floor(sigmoid * one + 0.5), least), one - 1)
        slope = min(max(floor(sigmoid * (1 - sigmoid) * one + 0.5), least), one // 4 - 1)
        return value, slope

    def feed(self, i: int, n: int) -> None:
        """FF of junction i on input n."""
        left, fan_in = self.left(i), self.fan_in(i)
        activations, slopes = [], []
        for j in range(self.layers[i]):
            edges = range(j * fan_in, (j + 1) * fan_in)
            s = sum(self.times(self.w[i - 1][e], self.a[i - 1, n][left[e]]) for e in edges)
            relu = self.relu and i < self.junctions
            value, slope = self.activate(self.clip(s + self.b[i - 1][j]), relu)
            activations.append(value)
            slopes.append(slope)
        self.a[i, n], self.slope[i, n] = activations, slopes

    def back(self, i: int, n: int) -> Vector:
        """BP of junction i on input n: deltas of layer i - 1, with what overtaking loses."""
        left, fan_in = self.left(i), self.fan_in(i)
        result = [0] * self.layers[i - 1]
        landing: list[tuple[int, int, int]] = []
        for k in range(len(left) // self.z[i - 1] + self.depth + 2):
            # what was written in an earlier clock has landed
            for clock, neuron, value in landing:
                if clock < k:
                    result[neuron] = value
            landing = [entry for entry in landing if entry[0] >= k]
            for e in range(k * self.z[i - 1], min((k + 1) * self.z[i - 1], len(left))):
                slope, delta = self.slope[i - 1, n][left[e]], self.delta[i, n][e // fan_in]
                share = self.times(self.w[i - 1][e], self.times(slope, delta))
                landing.append((k + 1 + self.depth, left[e], self.clip(result[left[e]] + share)))
        for _, neuron, value in landing:
            result[neuron] = value
        return result

    def update(self, i: int, n: int) -> tuple[Vector, Vector]:
        """UP of junction i by input n: new weights and biases."""
        left, fan_in, delta = self.left(i), self.fan_in(i), self.delta[i, n]
        steps = [self.step(d, self.code[n]) for d in delta]
        w = [
            self.clip(self.w[i - 1][e] + self.times(steps[e // fan_in], self.a[i - 1, n][left[e]]))
            for e in range(len(left))
        ]
        return w, [self.clip(b + s) for b, s in zip(self.b[i - 1], steps, strict=True)]

    def cycle(self, t: int, pixels: Vector, target: Vector, code: int) -> None:
        """Junction cycle t, in which input t is loaded."""
        last = self.junctions
        shift = self.fraction - 8
        self.a[0, t] = [p * 2**shift if shift >= 0 else p // 2**-shift for p in pixels]
        self.target[t], self.code[t] = target, code
        for i in range(1, last + 1):
            if t - i >= 0:
                self.feed(i, t - i)
        new = {}
        for i in range(1, last + 1):
            n = t - 2 * last - 1 + i
            if n >= 0:
                new[i] = self.update(i, n)
                if i > 1:
                    self.delta[i - 1, n] = self.back(i, n)
        for i, (w, b) in new.items():
            self.w[i - 1], self.b[i - 1] = w, b
        n = t - last
        if n >= 0:
            one = 2**self.fraction
            pairs = zip(self.a[last, n], self.target[n], strict=True)
            self.delta[last, n] = [self.clip(a - y * one) for a, y in pairs]

    def winner(self, n: int) -> int:
        """The winner for input n: last r outputs unseen, later clock before earlier on ties."""
        at_once = self.z[-1] // self.fan_in(self.junctions)
        a, best, found = self.a[self.junctions, n], -1, 0
        for first in range(0, len(a) - at_once, at_once):
            group = a[first : first + at_once]
            if max(group) >= best:
                best, found = max(group), first + group.index(max(group))
        return found

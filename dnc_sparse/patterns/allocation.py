"""Share one overall density among the junctions of a network.

| name   | meaning                                                    |
|--------|------------------------------------------------------------|
| unit   | the smallest change of a junction's fan_in                 |
| share  | units a rule gives a junction, before they are made whole  |
| weight | edges of one unit: n_out * unit                            |

Rules: "uniform", the same density everywhere; "erdos_renyi", density proportional to
(n_in + n_out) / (n_in * n_out), clipped at 1 (Mocanu et al., SET, 2018; Evci et al., RigL, 2020);
"later_denser", the cut falls on the first junction until each of its neurons keeps one connection,
then on the next (Dey et al., arXiv 1812.01164: prefer denser later junctions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, gcd

from dnc_sparse.patterns.blocks import FARTHEST, AnyBlock, asked_block, choose_block
from dnc_sparse.patterns.sizes import check_sizes, real, whole

RULES = ("uniform", "erdos_renyi", "later_denser")
# exact for 16 junctions, and for any number whose sums coincide; the nearest are kept beyond
MAX_STATES = 2**16


@dataclass(frozen=True)
class _Junction:
    n_in: int
    n_out: int
    unit: int
    # whether its block was chosen for it, so that its density may not move far
    near: bool = False

    @property
    def weight(self) -> int:
        return self.n_out * self.unit

    @property
    def most(self) -> int:
        return self.n_in // self.unit

    @property
    def one_each(self) -> int:
        """Units at which no neuron of either side needs to be left without an edge."""
        return ceil(max(1, self.n_in / self.n_out) / self.unit)


def allocate(
    sizes: Sequence[int],
    density: float,
    rule: str = "uniform",
    block: AnyBlock = 1,
    exact: bool = False,
) -> list[int]:
    """Return the fan_in of each junction of a network with these layer sizes.

    Each junction's share under the rule is rounded up or down so that the overall density is as
    near to the request as any such choice allows, and among equals the shares are followed best;
    `overall_density` tells what came out. With `exact` only a fan_in that allows equal fan_outs is
    used (what clash_free needs). With `block="auto"` junctions have the blocks that
    `allocate_blocks` tells. Raises ValueError for an unknown rule, fewer than two layers, and
    a density above 1 or below one unit per junction; TypeError for one that is no number.
    """
    return [fan_in for fan_in, _ in allocate_blocks(sizes, density, rule, block, exact)]


def allocate_blocks(
    sizes: Sequence[int],
    density: float,
    rule: str = "uniform",
    block: AnyBlock = "auto",
    exact: bool = False,
) -> list[tuple[int, tuple[int, int]]]:
    """Return (fan_in, block) of each junction; raises as `allocate`, whose fan_ins these are.

    With `block="auto"` each junction has the block of `choose_block` for its share of the density.
    """
    if rule not in RULES:
        raise ValueError(f"unknown allocation rule {rule!r}; choose one of {', '.join(RULES)}")
    density = real("density", density)
    pairs = _pairs(sizes)
    asked = asked_block(block)
    blocks = [asked or (1, 1)] * len(pairs)
    junctions = _junctions(pairs, blocks, exact)
    total = sum(j.n_in * j.n_out for j in junctions)
    least = sum(j.weight for j in junctions)
    if not least <= density * total * (1 + 1e-9) <= total * (1 + 2e-9):
        raise ValueError(
            f"density {density:g} of a {'-'.join(map(str, sizes))} network must lie in "
            f"{least / total:.4g}..1 (below that a junction would be empty)"
        )
    edges = density * total
    shares = _shares(rule, junctions, edges)
    if asked is None:
        wishes = [min(share / j.most, 1.0) for share, j in zip(shares, junctions, strict=True)]
        family = "clash_free" if exact else "auto"
        blocks = [
            choose_block(*pair, wish, family) for pair, wish in zip(pairs, wishes, strict=True)
        ]
        junctions = _junctions(pairs, blocks, exact, chosen=True)
        shares = [wish * j.most for wish, j in zip(wishes, junctions, strict=True)]
    units = _whole(junctions, shares, edges)
    fan_ins = (count * j.unit for count, j in zip(units, junctions, strict=True))
    return list(zip(fan_ins, blocks, strict=True))


def overall_density(sizes: Sequence[int], fan_ins: Sequence[int]) -> float:
    """Return edges / possible edges of a network whose junctions have these fan_ins."""
    pairs = list(pairwise(sizes))
    edges = sum(n_out * fan_in for (_, n_out), fan_in in zip(pairs, fan_ins, strict=True))
    return edges / sum(n_in * n_out for n_in, n_out in pairs)


def _pairs(sizes: Sequence[int]) -> list[tuple[int, int]]:
    if len(sizes) < 2:
        raise ValueError(f"a network needs at least 2 layers, got sizes {list(sizes)}")
    return list(pairwise(whole("layer size", n) for n in sizes))


def _junctions(
    pairs: Sequence[tuple[int, int]],
    blocks: Sequence[tuple[int, int]],
    exact: bool,
    chosen: bool = False,
) -> list[_Junction]:
    junctions = []
    for (n_in, n_out), size in zip(pairs, blocks, strict=True):
        check_sizes(n_in, n_out, size)
        columns = n_in // size[1]
        step = columns // gcd(columns, n_out // size[0]) if exact else 1
        near = chosen and size != (1, 1)
        junctions.append(_Junction(n_in, n_out, step * size[1], near))
    return junctions


def _shares(rule: str, junctions: list[_Junction], edges: float) -> list[float]:
    """Return the units that a rule gives each junction."""
    if rule == "later_denser":
        return _from_the_front(junctions, edges)
    if rule == "uniform":
        return _proportional(junctions, [1.0] * len(junctions), edges)
    wishes = [(j.n_in + j.n_out) / (j.n_in * j.n_out) for j in junctions]
    return _proportional(junctions, wishes, edges)


def _proportional(junctions: list[_Junction], wishes: list[float], edges: float) -> list[float]:
    """Scale the wished densities to the edges, each within one unit and all of its junction."""

    def shares(scale: float) -> list[float]:
        pairs = zip(junctions, wishes, strict=True)
        return [min(max(scale * wish * j.most, 1.0), float(j.most)) for j, wish in pairs]

    low, high = 0.0, 1 / min(wishes)
    for _ in range(200):
        middle = (low + high) / 2
        made = sum(s * j.weight for s, j in zip(shares(middle), junctions, strict=True))
        low, high = (middle, high) if made < edges else (low, middle)
    return shares(high)


def _from_the_front(junctions: list[_Junction], edges: float) -> list[float]:
    shares = [float(j.most) for j in junctions]
    cut = sum(j.most * j.weight for j in junctions) - edges
    for floors in ([float(j.one_each) for j in junctions], [1.0] * len(junctions)):
        for i, j in enumerate(junctions):
            taken = min(cut / j.weight, max(shares[i] - floors[i], 0.0))
            shares[i] -= taken
            cut -= taken * j.weight
    return shares


def _whole(junctions: list[_Junction], shares: list[float], edges: float) -> tuple[int, ...]:
    """Round each share up or down: nearest to `edges`, then least relative change of shares."""
    states: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    expected = 0.0
    for j, share in zip(junctions, shares, strict=True):
        grown: dict[int, tuple[float, tuple[int, ...]]] = {}
        # a share that was meant whole must not move by rounding
        counts = {floor(share + 1e-9), ceil(share - 1e-9)}
        if j.near:
            nearest = min(counts, key=lambda n: abs(n - share))
            counts = {
                n
                for n in counts
                if n == nearest or (abs(n - share) <= FARTHEST * share and n < j.most)
            }
        for count in sorted(counts):
            for made, (cost, chosen) in states.items():
                state = (cost + (count / share - 1) ** 2, (*chosen, count))
                key = made + count * j.weight
                grown[key] = min(grown.get(key, state), state)
        expected += share * j.weight
        kept = sorted(grown, key=lambda made: abs(made - expected))[:MAX_STATES]
        states = {made: grown[made] for made in kept}
    best = min(states, key=lambda made: (abs(made - edges), states[made][0]))
    return states[best][1]

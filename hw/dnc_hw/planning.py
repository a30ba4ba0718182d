"""Every choice of lanes that a network and a device allow, fastest first.

| name   | meaning                                                               | in the papers |
|--------|-----------------------------------------------------------------------|---------------|
| choice | lanes of every junction                                               | z_1 .. z_L    |
| T      | clocks of a junction cycle, in which one input is trained             |               |
| best   | no other choice is as fast with fewer, or faster with as many DSP     |               |

Lanes divide the left neurons of their junction. That a junction takes up what the one before it
completes is checked by building the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from dnc_hw.config import machine_from
from dnc_hw.devices import Device, device
from dnc_hw.machine import Machine
from dnc_hw.resources import Resources, resources_of

# machines that may be built for one plan, a few hundredths of a second each
MAX_CHOICES = 5_000


@dataclass(frozen=True, eq=False)
class Choice:
    """A machine with its resources, and whether it is among the best."""

    machine: Machine
    resources: Resources
    fits: bool
    best: bool = False


def plan(described: Mapping[str, Any], *, all_sizes: bool = False) -> list[Choice]:
    """List the choices of lanes for a described machine, fastest first, then those with fewer DSP.

    Choices that do not fit the device are left out unless `all_sizes`.

    Raises ValueError where nothing fits or nothing is legal, naming the nearest, and where there
    are too many choices; and as `machine_from`.
    """
    wished = _device(described)
    lanes = list(_candidates(described, None if all_sizes else wished.dsp))
    found: list[tuple[Machine, Resources]] = []
    refusal: ValueError | None = None
    for choice in lanes:
        try:
            machine = machine_from({**described, "lanes": choice})
        except ValueError as error:
            # kept, since a wrong option beside the lanes is refused with every choice
            refusal = refusal or error
            continue
        found.append((machine, resources_of(machine)))
    if not found:
        raise refusal or ValueError(
            f"no choice of lanes has at most the {wished.dsp} DSP of {wished.name}; "
            f"take a larger device"
        )
    found.sort(key=lambda each: (each[0].cycle_clocks, each[1].dsp, each[0].lanes))
    fitting = [each for each in found if all_sizes or not each[1].shortage(wished)]
    if not fitting:
        least = min(found, key=lambda each: each[1].lut_estimate)
        lacking = ", ".join(f"{n:,g} {name}" for name, n in least[1].shortage(wished).items())
        raise ValueError(
            f"none of {len(found)} choices of lanes fits {wished.name}; the smallest, "
            f"{list(least[0].lanes)}, lacks {lacking}; take fewer bits or edges, or a larger device"
        )
    return list(_marked(fitting, wished))


def _device(described: Mapping[str, Any]) -> Device:
    given = described.get("device", Machine.device)
    if isinstance(given, Device):
        return given
    return device(given) if isinstance(given, str) else Device(**given)


def _candidates(described: Mapping[str, Any], dsp: int | None) -> Iterator[tuple[int, ...]]:
    left = list(described["layers"])[:-1]
    options = [[d for d in range(1, n + 1) if n % d == 0] for n in left]
    if dsp is not None:
        options = [
            [d for d in each if d * (1 if i == 0 else 3) <= dsp] for i, each in enumerate(options)
        ]
    count = prod(map(len, options))
    if count > MAX_CHOICES:
        raise ValueError(
            f"{count:,} choices of lanes are more than the {MAX_CHOICES:,} that are tried; "
            f"name a smaller device, or plan fewer junctions at a time"
        )
    for choice in product(*options):
        if dsp is None or sum(choice) + 2 * sum(choice[1:]) <= dsp:
            yield choice


def _marked(found: Sequence[tuple[Machine, Resources]], wished: Device) -> Iterator[Choice]:
    """Mark the best of choices that come fastest first, then with fewer DSP."""
    fewest: int | None = None
    for machine, needs in found:
        best = fewest is None or needs.dsp < fewest
        if best:
            fewest = needs.dsp
        yield Choice(machine, needs, not needs.shortage(wished), best)

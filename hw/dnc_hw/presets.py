"""The published configurations, ready to build.

Sources: the released design (github souryadey/mlp-ondevice-training), utilisation reports of its
development, and the storage table of arXiv 1812.01164.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from dnc_hw.fixed_point import FixedPoint
from dnc_hw.machine import Machine

_MNIST = ((1024, 64, 32), (4, 16), (128, 32))


@dataclass(frozen=True)
class Preset:
    """Arguments of `Machine.from_sizes`, and where the configuration was published."""

    layers: tuple[int, ...]
    fan_out: tuple[int, ...]
    lanes: tuple[int, ...]
    number: FixedPoint
    pipeline_clocks: int
    source: str


def _mnist(integer_bits: int, fraction_bits: int, source: str, pipeline_clocks: int = 0) -> Preset:
    return Preset(*_MNIST, FixedPoint(integer_bits, fraction_bits), pipeline_clocks, source)


_REPORT = "utilisation report, xc7a100t, 224 DSP"
_NO_LANES = "storage table; the lanes are ours"

PRESETS = {
    "mnist-12bit": _mnist(3, 8, "the design labelled as implemented, 34 clocks"),
    "mnist-12bit-pipelined": _mnist(3, 8, "the release's default, 36 clocks, with a hazard", 2),
    "mnist-8bit": _mnist(2, 5, _REPORT),
    "mnist-10bit-i2": _mnist(2, 7, _REPORT),
    "mnist-10bit-i3": _mnist(3, 6, _REPORT),
    "mnist-16bit": _mnist(4, 11, "utilisation report; failed to implement"),
    "mnist-64-outputs": Preset(
        *((1024, 64, 64), (8, 4), (128, 4)),
        *(FixedPoint(2, 5), 0, "utilisation report without DSP, C = 64; format not stated"),
    ),
    "mnist-original": Preset(
        *((1024, 64, 16), (8, 8), (512, 32)),
        *(FixedPoint(2, 5), 0, "utilisation report, does not fit; format not stated"),
    ),
    "small": Preset(
        *((64, 16, 4), (2, 2), (32, 8), FixedPoint(2, 7), 0),
        "synthesised, 10 bit, 6 clocks",
    ),
    "test-deep": Preset(
        *((64, 32, 8), (2, 2), (16, 8), FixedPoint(2, 7), 0),
        "recorded test network whose delta memories have 4 words",
    ),
    "test-shallow": Preset(
        *((64, 32, 8), (2, 2), (32, 16), FixedPoint(2, 7), 0),
        "the same network with delta memories of 2 words",
    ),
    "jetcas-sparse": Preset(*((800, 100, 10), (20, 10), (160, 10), FixedPoint(3, 8), 0), _NO_LANES),
    "jetcas-dense": Preset(*((800, 100, 10), (100, 10), (800, 10), FixedPoint(3, 8), 0), _NO_LANES),
}


def preset(name: str, **changes: Any) -> Machine:
    """Build a published configuration, with other options where given.

    Raises ValueError for an unknown name, and as `Machine.from_sizes` for changes that do not fit.
    """
    return Machine.from_sizes(**{**sizes_of(name), **changes})


def sizes_of(name: str) -> dict[str, Any]:
    """Return what `Machine.from_sizes` takes for a preset; ValueError for an unknown name."""
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"unknown preset {name!r} (nearest: {near}); choose one of {', '.join(PRESETS)}, "
            f"or describe a machine of your own in a .toml file"
        )
    # not asdict, which would take the format apart
    return {f.name: getattr(PRESETS[name], f.name) for f in fields(Preset) if f.name != "source"}

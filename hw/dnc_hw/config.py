"""Machines from TOML, or from the same as a mapping.

preset = "mnist-12bit"          # optional: what the other keys change
layers = [1024, 64, 32]
fan_out = [4, 16]
lanes = [128, 32]
number = {integer_bits = 3, fraction_bits = 8}
pipeline_clocks = 2
hidden_activation = "sigmoid"   # or "relu"
hazards = "forward"             # reject, stall, forward, emulate
rate = {codes = [4, 5, 6], change_at = [0, 25000, 75000]}
device = "xc7a100t"             # or {name, lut, lutram, flip_flops, bram36, dsp}
clock_mhz = 15.0
pattern = {kind = 2, dither = false, seed = 0}  # instead of the published interleaver
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import Any

from dnc_hw.devices import Device, device
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.learning_rate import LearningRate
from dnc_hw.machine import Machine
from dnc_hw.presets import sizes_of
from dnc_sparse.patterns import clash_free

_SHAPE = ("layers", "fan_out", "lanes", "number")
_OPTIONS = tuple(f.name for f in fields(Machine) if f.name not in ("orders", "number"))
_PATTERN = ("kind", "dither", "seed")
_KEYS = ("preset", *_SHAPE, *_OPTIONS, "starts", "pattern")


def read_machine(path: Path | str) -> Machine:
    """Build the machine that a TOML file describes.

    Raises FileNotFoundError, and ValueError, naming the file, for text that is not TOML and as
    `machine_from`.
    """
    try:
        return machine_from(tomllib.loads(Path(path).read_text()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def machine_from(described: Mapping[str, Any]) -> Machine:
    """Build the machine that a mapping with the keys above describes.

    Raises ValueError for unknown or missing keys, naming the nearest known one, for values of
    another type, and as the parts of a machine.
    """
    _check_keys("a machine", described, _KEYS)
    given = dict(described)
    for key, build in _PARTS.items():
        if key in given:
            given[key] = build(given[key])
    name, drawn = given.pop("preset", None), given.pop("pattern", None)
    if name is not None:
        given = {**sizes_of(name), **given}
    _check_present(given)
    if drawn is None:
        return Machine.from_sizes(**given)
    if "starts" in given:
        raise ValueError("pattern and starts both choose the edges; leave one out")
    return _drawn(given, drawn)


def _drawn(given: dict[str, Any], choice: Mapping[str, Any]) -> Machine:
    layers, fan_out, lanes = given.pop("layers"), given.pop("fan_out"), given["lanes"]
    if not len(layers) - 1 == len(fan_out) == len(lanes):
        raise ValueError(
            f"{len(layers) - 1} junctions need as many fan_out and lanes, "
            f"got {len(fan_out)} and {len(lanes)}"
        )
    seed = choice.get("seed", 0)
    patterns = [
        clash_free(
            *sizes,
            fan_out=fan_out[i],
            banks=lanes[i],
            bank_map="interleaved",
            **{**choice, "seed": seed + i},
        )
        for i, sizes in enumerate(pairwise(layers))
    ]
    return Machine.from_patterns(patterns, **given)


def _number(given: Any) -> Any:
    return _table("number", given, FixedPoint)


def _rate(given: Any) -> Any:
    if isinstance(given, Mapping):
        given = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
    return _table("rate", given, LearningRate)


def _device(given: Any) -> Any:
    return device(given) if isinstance(given, str) else _table("device", given, Device)


def _list(key: str) -> Callable[[Any], Any]:
    def build(given: Any) -> Any:
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise ValueError(
                f"{key} must be a list of whole numbers, such as [4, 16], got {given!r}"
            )
        return given

    return build


def _clock(given: Any) -> Any:
    if not isinstance(given, Real) or isinstance(given, bool):
        raise ValueError(f"clock_mhz must be a number, got {given!r}")
    return given


def _choice(given: Any) -> Any:
    if not isinstance(given, bool):
        raise ValueError(f"winner_skips_last_clock must be true or false, got {given!r}")
    return given


def _pattern(given: Any) -> Any:
    if not isinstance(given, Mapping):
        raise ValueError(f"pattern must be a table of {', '.join(_PATTERN)}, got {given!r}")
    _check_keys("pattern", given, _PATTERN)
    return given


_PARTS: dict[str, Callable[[Any], Any]] = {
    "layers": _list("layers"),
    "fan_out": _list("fan_out"),
    "lanes": _list("lanes"),
    "number": _number,
    "rate": _rate,
    "device": _device,
    "clock_mhz": _clock,
    "winner_skips_last_clock": _choice,
    "pattern": _pattern,
}


def _table(key: str, given: Any, build: Callable[..., Any]) -> Any:
    names = tuple(f.name for f in fields(build))  # type: ignore[arg-type]
    if isinstance(given, build):  # type: ignore[arg-type]
        return given
    if not isinstance(given, Mapping):
        raise ValueError(f"{key} must be a table of {', '.join(names)}, got {given!r}")
    _check_keys(key, given, names)
    try:
        return build(**given)
    except TypeError as error:
        raise ValueError(f"{key} needs {', '.join(names)}: {error}") from error


def _check_keys(what: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"{what} has no {key!r} (nearest: {near}); known: {', '.join(known)}")


def _check_present(given: Mapping[str, Any]) -> None:
    missing = [key for key in _SHAPE if key not in given]
    if missing:
        raise ValueError(
            f"a machine needs {', '.join(_SHAPE)} (or a preset); {', '.join(missing)} missing"
        )

"""Machines as mappings with the keys of `dnc_hw.config`, from which studies make variants."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from dnc_hw.presets import PRESETS, sizes_of
from dnc_sparse.patterns import feasible_densities

# the interleaver of the release, whose start addresses are all zero, or kinds of clash-free pattern
PUBLISHED_KIND = "published"
KINDS = (PUBLISHED_KIND, "1", "2", "3")


def describe(machine: str) -> dict[str, Any]:
    """Return what a preset's name or the path of a TOML file describes, presets spelt out.

    Raises ValueError for an unknown preset and text that is not TOML, FileNotFoundError for a file
    that is not there.
    """
    if not machine.endswith(".toml"):
        return sizes_of(machine)
    path = Path(machine)
    if not path.is_file():
        raise FileNotFoundError(
            f"no machine file {machine}; name a .toml that exists, or a preset: "
            f"{', '.join(PRESETS)}"
        )
    try:
        described = tomllib.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{machine}: {error}") from error
    name = described.pop("preset", None)
    return described if name is None else {**sizes_of(str(name)), **described}


def with_kind(described: Mapping[str, Any], kind: str, seed: int = 0) -> dict[str, Any]:
    """Return the description with edges of this kind: published, 1, 2 or 3; ValueError for others.

    Kinds 1 to 3 are drawn with `seed`, one more for each junction after the first.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of pattern {kind!r}; choose {', '.join(KINDS)}")
    varied = {key: value for key, value in described.items() if key not in ("pattern", "starts")}
    if kind != PUBLISHED_KIND:
        varied["pattern"] = {"kind": int(kind), "seed": seed}
    return varied


def nearest_fan_out(layers: list[int] | tuple[int, ...], density: float) -> tuple[int, ...]:
    """Return the fan_out of each junction whose density is the feasible one nearest to this.

    Raises ValueError for a density outside 0..1.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must be above 0 and at most 1, got {density:g}")
    return tuple(
        round(min(feasible_densities(*sizes), key=lambda d: abs(d - density)) * sizes[1])
        for sizes in pairwise(layers)
    )

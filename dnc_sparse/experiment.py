"""What is trained: a task (data and recipe) and a version of a network, as plain records.

Both are JSON-able, travel between processes, and say the same thing on the command line, in files
and in tables.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from dnc_sparse.data import DataSet, check_classes, join_validation, load, pad_features
from dnc_sparse.nn import SparseMLP
from dnc_sparse.nn.arguments import check_network
from dnc_sparse.patterns.blocks import Auto, asked_block
from dnc_sparse.recipes import recipe
from dnc_sparse.training import FitConfig


@dataclass(frozen=True)
class Version:
    """One network: every edge when neither `density` nor `fan_out` is given.

    `density` is the whole network's, `fan_out` has one exact number per junction; `options` go to
    the pattern family (banks, kind, dither, bank_map). `block` is that of every junction, or "auto"
    as in `SparseMLP`. Raises ValueError when both are given, and for another text than "auto".
    """

    sizes: tuple[int, ...]
    density: float | None = None
    fan_out: tuple[int, ...] | None = None
    family: str = "auto"
    block: tuple[int, int] | Auto = "auto"
    options: dict[str, Any] = field(default_factory=dict)
    l2: float = 0.0

    def __post_init__(self) -> None:
        if self.density is not None and self.fan_out is not None:
            raise ValueError(
                f"give density or fan_out, not both; got {self.density} and {self.fan_out}"
            )
        # before data are loaded or generated for it
        check_network(self.sizes, self.density, self.fan_out)
        asked_block(self.block)

    @property
    def is_dense(self) -> bool:
        """Whether no junction is thinned."""
        return self.density is None and self.fan_out is None

    @property
    def is_narrow(self) -> bool:
        """Whether it is dense with narrower hidden layers; see `Narrow`."""
        return False

    @property
    def name(self) -> str:
        """How tables and figures call it."""
        if self.is_dense:
            return "dense"
        degrees = (
            f"density {self.density:g}"
            if self.fan_out is None
            else f"fan_out ({','.join(map(str, self.fan_out))})"
        )
        bo, bi = self.sides or (1, 1)
        block = "" if (bo, bi) == (1, 1) else f" block {bo}x{bi}"
        return f"{self.family}{block} {degrees}"

    @property
    def sides(self) -> tuple[int, int] | None:
        """Sides (bo, bi) of the block of every junction; None when each has what suits it."""
        asked = asked_block(self.block)
        open_ = asked is None and self.density is not None and not self.options
        return None if open_ else asked or (1, 1)

    def record(self) -> dict[str, Any]:
        """Return what decides the network as a JSON-able record, the same for equal networks."""
        return asdict(replace(self, block=self.sides or "auto"))

    def build(self, seed: int) -> SparseMLP:
        """Return the network with the patterns of this seed, weights not yet as the recipe says."""
        if self.is_dense:
            return SparseMLP(self.sizes, 1.0, seed=seed)
        chosen: dict[str, Any] = {"family": self.family, "block": self.block, **self.options}
        return SparseMLP(self.sizes, self.density, fan_out=self.fan_out, seed=seed, **chosen)


@dataclass(frozen=True)
class Narrow(Version):
    """A dense network with narrower hidden layers, to compare a sparse one of as many weights with.

    It is the same run as a `Version` of these sizes, under another name.
    """

    @property
    def is_narrow(self) -> bool:
        """True."""
        return True

    @property
    def name(self) -> str:
        """How tables and figures call it, with its sizes."""
        return f"dense, narrow {_text(self.sizes)}"


def narrow(version: Version) -> Narrow:
    """Return the largest narrow network with no more parameters than the version's.

    One factor scales all hidden layers, and widths are rounded down. Raises ValueError without a
    hidden layer, and where one neuron in each has more parameters already.
    """
    n_in, *hidden, n_out = version.sizes
    if not hidden:
        raise ValueError(
            f"network {_text(version.sizes)} has no hidden layer to be narrower; leave out --narrow"
        )
    most = version.build(0).n_parameters
    # widths change at these factors alone
    factors = sorted({Fraction(k, width) for width in hidden for k in range(1, width + 1)})

    def sizes(factor: Fraction) -> tuple[int, ...]:
        return (n_in, *(max(1, int(factor * width)) for width in hidden), n_out)

    fitting = bisect_right(factors, most, key=lambda factor: _dense_parameters(sizes(factor)))
    if not fitting:
        least = _dense_parameters(sizes(factors[0]))
        raise ValueError(
            f"{version.name} has {most} parameters, but the narrowest dense network, "
            f"{_text(sizes(factors[0]))}, has {least}; leave out --narrow, or this version"
        )
    return Narrow(sizes(factors[fitting - 1]), l2=version.l2)


def _dense_parameters(sizes: Sequence[int]) -> int:
    return sum(left * right + right for left, right in pairwise(sizes))


def _text(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


@dataclass(frozen=True)
class Task:
    """The data, where its files are, and the recipe; None keeps the recipe's own figure.

    `join_validation` trains on the validation split too, as published final runs do.
    """

    data: str
    recipe: str
    data_dir: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    join_validation: bool = False

    def load(self, version: Version) -> DataSet:
        """Return the data, padded with zeros to the network's first layer.

        Raises ValueError for classes without a training sample, and as `load`.
        """
        data = load(self.data, self.data_dir, **self.options)
        if self.join_validation:
            data = join_validation(data)
        check_classes(data)
        return pad_features(data, version.sizes[0])

    def identity(self) -> dict[str, Any]:
        """Return what decides the results as a JSON-able record, wherever the files are.

        Raises as `identify`.
        """
        return asdict(replace(self, data_dir=None)) | {"data": identify(self.data)}

    def config(self, version: Version, seed: int) -> FitConfig:
        """Return the recipe's settings with this task's changes."""
        given: dict[str, Any] = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        return replace(recipe(self.recipe, version.l2).config, seed=seed, **changes)

    def model(self, version: Version, seed: int) -> SparseMLP:
        """Return the network of this seed, initialised as the recipe says."""
        model = version.build(seed)
        recipe(self.recipe).initialise(model, seed)
        return model


def identify(data: str) -> str:
    """Return what tells data apart: an .npz's contents, as a checksum, or a known set's name.

    The files of known sets are checked against sums when they are loaded. Raises FileNotFoundError
    without the .npz.
    """
    if not data.endswith(".npz"):
        return data
    path = Path(data)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the path of an .npz file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_recipe(data: str) -> str:
    """Return the recipe published with this data set."""
    return "morse" if data.startswith("morse") else "paper"

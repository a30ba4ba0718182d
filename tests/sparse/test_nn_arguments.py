"""Wrong arguments of networks and sizes that no machine holds: one clear line each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dnc_sparse.experiment import Version
from dnc_sparse.nn import SparseLinear, SparseMLP
from dnc_sparse.patterns import memory, regular

SIZES = (64, 32, 10)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"density": "abc"}, TypeError, "density must be a number, got 'abc'"),
        ({"density": "ab"}, TypeError, "density must be a number, got 'ab'"),
        ({"density": [0.5, "x"]}, TypeError, "density must be a number, got 'x'"),
        ({"density": 1j}, TypeError, "density must be a number, got 1j"),
        ({"fan_in": "3"}, TypeError, "fan_in takes one number per junction, such as (3,); got '3'"),
        ({"fan_out": 3}, TypeError, "fan_out takes one number per junction, such as (3,); got 3"),
        ({"fan_in": ("3", "4")}, TypeError, "fan_in must be a whole number, got '3'"),
        ({"dropout": "x"}, TypeError, "dropout must be a number, got 'x'"),
        ({"dropout": None}, TypeError, "dropout must be a number, got None"),
        ({"dropout": 2}, ValueError, "dropout must lie in 0..1, got 2"),
        ({"dropout": -0.5}, ValueError, "dropout must lie in 0..1, got -0.5"),
        ({"seed": "x"}, TypeError, "seed must be a whole number, got 'x'"),
        ({"seed": 1.5}, TypeError, "seed must be a whole number, got 1.5"),
        ({"activation": "relu"}, TypeError, "activation takes what makes a module, such as nn.ReL"),
        ({"activation": nn.ReLU()}, TypeError, "activation takes what makes a module, such as nn."),
        ({"activation": torch.relu}, TypeError, "activation takes what makes a module, such as nn"),
        ({"activation": lambda: 3}, TypeError, "activation takes what makes a module, such as nn."),
        (
            {"sizes": 64},
            TypeError,
            "layer sizes must be a sequence of whole numbers, such as (784,",
        ),
        ({"sizes": "64,32"}, TypeError, "layer sizes must be a sequence of whole numbers, such as"),
        ({"sizes": (64, "32")}, TypeError, "layer size must be a whole number, got '32'"),
        ({"sizes": (64, 32.0)}, TypeError, "layer size must be a whole number, got 32.0"),
        ({"sizes": (64, 0, 9)}, ValueError, "layer sizes 64, 0, 9 hold a layer of 0 neurons; each"),
        ({"sizes": (64, 9, -1)}, ValueError, "layer sizes 64, 9, -1 hold a layer of -1 neurons"),
        ({"sizes": (64,)}, ValueError, "a network needs at least two layer sizes, got (64,)"),
    ],
)
def test_wrong_arguments_of_a_network(
    arguments: dict[str, Any], kind: type[Exception], text: str
) -> None:
    choice = {"sizes": SIZES, **arguments}
    if not {"fan_in", "fan_out"} & set(arguments):
        choice.setdefault("density", 0.5)
    with pytest.raises(kind, match="^" + re.escape(text)):
        SparseMLP(**choice)


@pytest.mark.parametrize("density", [0.5, np.float32(0.5), torch.tensor(0.5), (0.5, 0.5)])
def test_numbers_of_any_type_are_densities(density: Any) -> None:
    assert SparseMLP(SIZES, density).edges == (1024, 160)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"density": "abc"}, "density must be a number, got 'abc'"),
        ({"fan_in": "3"}, "fan_in must be a whole number, got '3'"),
        ({"fan_out": 3.5}, "fan_out must be a whole number, got 3.5"),
    ],
)
def test_wrong_degrees_of_a_layer(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=f"^{text}$"):
        SparseLinear(64, 32, **arguments)


@pytest.mark.parametrize("thing", [nn.Conv2d(3, 3, 3), None])
def test_only_linear_layers_are_taken(thing: Any) -> None:
    with pytest.raises(
        TypeError, match=rf"^from_dense takes an nn\.Linear, got a {type(thing).__name__}$"
    ):
        SparseLinear.from_dense(thing, 0.5)


# --- more than the machine has


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_bytes", lambda: 2**30)


def test_giant_junctions_are_refused_before_they_are_drawn(small_machine: None) -> None:
    text = (
        r"^a 20000 -> 20000 junction with 100,000,000 edges would need at least 1\.5 GiB, and this "
        r"machine has 1\.0 GiB of memory; choose a lower density or a larger block$"
    )
    with pytest.raises(RuntimeError, match=text):
        SparseLinear(20_000, 20_000, 0.25, block=1)
    with pytest.raises(RuntimeError, match=text):
        SparseMLP((20_000, 20_000, 10), (0.25, 0.25), block=1)
    with pytest.raises(RuntimeError, match=text):
        regular(20_000, 20_000, density=0.25)


def test_giant_dense_layers_are_refused(small_machine: None) -> None:
    text = (
        r"^a dense 20000 -> 20000 layer would need at least 1\.5 GiB, and this machine has 1\.0 "
        r"GiB of memory; choose fewer neurons, or a density below 1$"
    )
    for density in (1.0, (1.0, 0.5)):
        with pytest.raises(RuntimeError, match=text):
            SparseMLP((20_000, 20_000, 10), density)
    with torch.device("meta"):
        assert SparseMLP((20_000, 20_000, 10), 1.0).n_edges == 400_200_000


def test_limits_of_containers_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, none = tmp_path / "limit", tmp_path / "none"
    limit.write_text("123456\n")
    none.write_text("max\n")
    monkeypatch.setattr(memory, "LIMITS", (str(none), str(limit), str(tmp_path / "missing")))
    memory.memory_bytes.cache_clear()
    assert memory.memory_bytes() == 123456
    monkeypatch.setattr(memory, "LIMITS", (str(none),))
    memory.memory_bytes.cache_clear()
    whole = memory.memory_bytes()
    assert whole is None or whole > 2**28
    memory.memory_bytes.cache_clear()


# --- versions of a network, before data are loaded for it


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"sizes": (64, 0, 64)}, "layer sizes 64, 0, 64 hold a layer of 0 neurons; each needs at"),
        ({"sizes": (64,)}, "a network needs at least two layer sizes, got (64,)"),
        ({"sizes": SIZES, "density": 1.5}, "density must be above 0 and at most 1, got 1.5"),
        ({"sizes": SIZES, "density": 0.0}, "density must be above 0 and at most 1, got 0"),
        ({"sizes": SIZES, "fan_out": (8,)}, "3 layers have 2 junctions but fan_out has 1 numbers"),
        ({"sizes": SIZES, "fan_out": (8, 0)}, "fan_out 0 of a 32 -> 10 junction must be above 0"),
        ({"sizes": SIZES, "fan_out": (40, 2)}, "fan_out 40 of a 64 -> 32 junction must be above 0"),
    ],
)
def test_a_version_that_cannot_be_is_refused(choice: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(text)):
        Version(**choice)

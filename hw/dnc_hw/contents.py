"""Weights and biases of a machine in a file: an .npz with w1, b1, w2, b2, ... in LSB."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from dnc_hw.machine import Machine
from dnc_hw.trace import Parameters
from dnc_sparse.checkpoint import write_atomic
from dnc_sparse.data.npz import read_npz


def write_contents(path: Path, parameters: Parameters) -> None:
    """Write parameters, whole or not at all. Raises as `write_atomic`."""
    arrays: dict[str, Any] = {}
    for i, (weights, biases) in enumerate(zip(parameters.weights, parameters.biases, strict=True)):
        arrays |= {f"w{i + 1}": weights, f"b{i + 1}": biases}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def read_contents(path: Path, machine: Machine) -> Parameters:
    """Read the parameters of a machine. Raises ValueError where they do not fit it."""
    junctions = range(1, machine.junctions + 1)
    names = [f"{letter}{i}" for i in junctions for letter in "wb"]
    stored = read_npz(path, names)
    parameters = Parameters(
        tuple(stored[f"w{i}"].astype(np.int64) for i in junctions),
        tuple(stored[f"b{i}"].astype(np.int64) for i in junctions),
    )
    try:
        parameters.check(machine)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return parameters

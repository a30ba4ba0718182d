"""Recordings of a running design: what went in, and every value that came out.

The format is that of the recordings of the authors' own design: an `.npz` with the configuration
(`layers`, `fan_out`, `z`, `P`, `fixed_point` = [1, I, F], optionally `relu_hidden`), the edges
(`left1`, `right1`, ...), initial and later parameters (`w1_init`, `snap_count`, `snap_w1`, ...),
the stimuli (`inputs` or, for MNIST, `inputs_sha256`; `labels`; `etapos` or its changes), and
results by junction cycle (`act1`, `delta1_used`, `argmax`, ...). Input n is loaded in cycle n;
after the last input, 2L cycles without label and update let every input reach the last update.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnc_hw.edges import edges_listed
from dnc_hw.fixed_point import FixedPoint, Ints
from dnc_hw.machine import Machine
from dnc_hw.trace import Parameters, Pixels
from dnc_sparse.data.files import ENVIRONMENT, find_file, folders
from dnc_sparse.data.idx import read_idx
from dnc_sparse.data.images import MNIST_FILES
from dnc_sparse.data.npz import read_npz

FOLDER = "rtl-traces"
UNITS_FILE = "x_units.npz"


@dataclass(frozen=True, eq=False)
class Recording:
    """A recorded run: the machine and its stimuli, and the arrays as they were recorded.

    inputs: [inputs, n_in] pixels, presented `passes` times; labels and codes: [inputs * passes].
    """

    name: str
    machine: Machine
    parameters: Parameters
    inputs: Pixels
    passes: int
    labels: Ints
    codes: Ints
    arrays: Mapping[str, Ints]

    def stimuli(self, first: int, count: int) -> tuple[Pixels, Ints, Ints]:
        """Return pixels, labels and codes for junction cycles; zeros, no label, 0 in the drain."""
        numbers = np.arange(first, first + count)
        there = numbers < len(self.labels)
        pixels = np.where(there[:, None], self.inputs[numbers % len(self.inputs)], 0)
        clipped = np.minimum(numbers, len(self.labels) - 1)
        labels = np.where(there, self.labels[clipped], -1)
        return pixels.astype(np.uint8), labels, np.where(there, self.codes[clipped], 0)


def find_recordings(data_dir: Path | str | None = None) -> list[Path]:
    """List the recordings of a data folder, or of the one that DNC_DATA names.

    Raises FileNotFoundError where there are none.
    """
    searched = []
    for origin, folder in folders(data_dir):
        for place in (folder / FOLDER, folder):
            found = sorted(place.glob("*.npz"))
            if found:
                return found
        searched.append(f"{origin} {folder}")
    where = ", ".join(searched) or f"none given, {ENVIRONMENT} not set"
    raise FileNotFoundError(
        f"no recordings ({FOLDER}/*.npz) in a data folder ({where}); "
        f"name the folder that holds {FOLDER} by data_dir (--data-dir) or {ENVIRONMENT}"
    )


def read_recording(path: Path | str, data_dir: Path | str | None = None) -> Recording:
    """Read a recording from its file, as `recording_of`; ValueError for a file that is damaged."""
    return recording_of(Path(path).stem, read_arrays(path), data_dir)


def recording_of(
    name: str, arrays: Mapping[str, Ints], data_dir: Path | str | None = None
) -> Recording:
    """Make a recording of its arrays; MNIST inputs come from the data folder (or a download).

    Raises ValueError for arrays that are no recording, and for inputs other than the recorded ones;
    FileNotFoundError for MNIST files that are nowhere.
    """
    needed = ("layers", "z", "P", "fixed_point", "labels", "w1_init", "left1")
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise ValueError(f"{name} is no recording of a run: it lacks {', '.join(missing)}")
    layers = [int(n) for n in arrays["layers"]]
    junctions = range(1, len(layers))
    orders = tuple(
        edges_listed(
            *(layers[i - 1], layers[i]),
            *(arrays[f"left{i}"], arrays[f"right{i}"]),
            int(arrays["z"][i - 1]),
        )
        for i in junctions
    )
    _, integer_bits, fraction_bits = (int(bits) for bits in arrays["fixed_point"])
    machine = Machine(
        orders,
        FixedPoint(integer_bits, fraction_bits),
        pipeline_clocks=int(arrays["P"]),
        hidden_activation="relu" if arrays.get("relu_hidden", np.array(0)).any() else "sigmoid",
        hazards="emulate",
    )
    parameters = Parameters(
        tuple(arrays[f"w{i}_init"] for i in junctions),
        tuple(arrays[f"b{i}_init"] for i in junctions),
    )
    inputs = _inputs(name, arrays, layers[0], data_dir)
    passes = _passes(arrays, len(inputs), len(junctions))
    labels = np.tile(arrays["labels"], passes)
    codes = _codes(arrays, len(labels))
    return Recording(name, machine, parameters, inputs, passes, labels, codes, arrays)


def read_arrays(path: Path | str) -> dict[str, Ints]:
    """Read an `.npz` of integers, widened; raises as `read_npz`."""
    stored = read_npz(path, (), None)
    return {name: values.astype(np.int64) for name, values in stored.items()}


def _inputs(
    name: str, arrays: Mapping[str, Ints], n_in: int, data_dir: Path | str | None
) -> Pixels:
    if "inputs" in arrays:
        return arrays["inputs"].astype(np.uint8)
    pixels = _mnist(n_in, None if data_dir is None else str(data_dir))[: len(arrays["labels"])]
    if "inputs_sha256" in arrays:
        found = hashlib.sha256(pixels.tobytes()).digest()
        wanted = arrays["inputs_sha256"].astype(np.uint8).tobytes()
        if found != wanted:
            raise ValueError(
                f"{name} was recorded with other inputs than the first {len(pixels)} MNIST images: "
                f"sha256 {wanted.hex()}, found {found.hex()}"
            )
    return pixels


@lru_cache(maxsize=1)
def _mnist(n_in: int, data_dir: str | None) -> NDArray[np.uint8]:
    images = read_idx(find_file(MNIST_FILES[0], data_dir))
    pixels = images.reshape(len(images), -1)
    return np.pad(pixels, ((0, 0), (0, n_in - pixels.shape[1])))


def _passes(arrays: Mapping[str, Ints], inputs: int, junctions: int) -> int:
    """Tell how often the inputs were presented from the winners, by junction cycle or by input."""
    winners = len(arrays.get("argmax", arrays["labels"]))
    return 1 if winners == inputs + 2 * junctions else winners // inputs


def _codes(arrays: Mapping[str, Ints], count: int) -> Ints:
    if "etapos" in arrays:
        return np.resize(arrays["etapos"], count)
    piece = np.searchsorted(arrays["etapos_change_at"], np.arange(count), side="right") - 1
    codes: Ints = arrays["etapos_values"][piece]
    return codes

"""Recordings are reproduced to the last value, and differences are found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hw.make_recording import FILE, INPUTS, hard_network, record
from hw.naive import Naive
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse.data_files import data_dir

from dnc_hw.recording import find_recordings, read_recording, recording_of
from dnc_hw.validation import SIMULATORS, Row, SimulatorName, compare, correct_in_window, validate

# the readable model takes minutes for the others; `dnc_hw.validate` runs it on all of them
SHORT = ("a_p0", "b_p2")


@pytest.fixture
def recorded() -> dict[str, Any]:
    with np.load(FILE) as stored:
        return dict(stored)


def differences(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.differing]


@pytest.mark.parametrize("simulator", list(SIMULATORS))
def test_our_own_recording(simulator: SimulatorName) -> None:
    rows = validate(simulator=simulator, files=[FILE])
    assert differences(rows) == []
    assert len(rows) == 24
    assert sum(row.compared for row in rows) > 16_000
    hazards = read_recording(FILE).machine.issues[1].hazards
    assert len(hazards) == 48


def test_the_recording_is_what_its_command_writes(recorded: dict[str, Any]) -> None:
    fresh = record(hard_network(), INPUTS, seed=1)
    assert fresh.keys() == recorded.keys()
    for name, values in fresh.items():
        assert np.array_equal(values, recorded[name]), name


@st.composite
def naive_networks(draw: st.DrawFn) -> Naive:
    """Draw a network of the published kind: powers of two, junctions of equal length."""
    junctions = draw(st.integers(1, 3))
    rows = draw(st.sampled_from([2, 4, 8]))
    layers = [draw(st.sampled_from([8, 16]))]
    fan_out, lanes = [], []
    for _ in range(junctions):
        n_in = layers[-1]
        depth = draw(st.sampled_from([d for d in (1, 2, 4) if d <= rows]))
        z = n_in // depth
        fan_out.append(rows // depth)
        lanes.append(z)
        # right neurons per row: at least one, and as many as the next memories absorb
        at_once = draw(st.sampled_from([r for r in (1, 2) if r <= z]))
        layers.append(rows * at_once)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    integer, fraction = draw(st.sampled_from([(2, 5), (2, 7), (3, 8), (1, 4), (4, 11)]))
    top = 2 ** (integer + fraction)
    edges = [n * d for n, d in zip(layers[:-1], fan_out, strict=True)]
    starts = [
        rng.integers(0, n // z, (1, z)).repeat(d, axis=0).tolist()
        for n, d, z in zip(layers[:-1], fan_out, lanes, strict=True)
    ]
    w = [rng.integers(-top, top, count).tolist() for count in edges]
    b = [rng.integers(-top, top, count).tolist() for count in layers[1:]]
    depth, relu = draw(st.integers(0, 3)), draw(st.booleans())
    return Naive(layers, fan_out, lanes, starts, integer, fraction, depth, relu, w, b)


@given(naive_networks(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_random_networks_of_the_published_kind(naive: Naive, seed: int) -> None:
    arrays = {name: values.astype(np.int64) for name, values in record(naive, 12, seed).items()}
    recording = recording_of("drawn", arrays)
    for simulator in SIMULATORS.values():
        assert differences(compare(recording, simulator)) == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("snap_w1", (3, 5)),
        ("snap_b2", (60, 1)),
        ("act1", (7, 0)),
        ("dact1", (7, 1)),
        ("act2", (9, 3)),
        ("delta2", (9, 3)),
        ("delta2_used", (9, 3)),
        ("delta1_used", (30, 2)),
        ("etapos_used_j1", (20,)),
        ("argmax", (11,)),
        ("correct", (11,)),
        ("clocks_observed", (0,)),
        ("table_sigma", (77,)),
    ],
)
def test_a_changed_value_is_found_where_it_is(
    recorded: dict[str, Any], tmp_path: Path, name: str, index: tuple[int, ...]
) -> None:
    recorded[name] = recorded[name].astype(np.int64)
    recorded[name][index] += 1
    path = tmp_path / "changed.npz"
    np.savez(path, **recorded)
    (row,) = differences(validate(files=[path]))
    assert (row.file, row.quantity, row.differing, row.first) == ("changed", name, 1, index)


@pytest.mark.parametrize("simulator", list(SIMULATORS))
def test_the_published_design(simulator: SimulatorName) -> None:
    folder = data_dir("rtl-traces")
    data_dir("mnist")
    files = find_recordings(folder)
    assert len(files) == 14
    if simulator == "model":
        files = [path for path in files if path.stem in SHORT or path.stem == "x_units"]
    rows = validate(folder, simulator=simulator, files=files)
    assert differences(rows) == []
    assert len({row.file for row in rows}) == len(files)
    compared = sum(row.compared for row in rows)
    assert compared == {"engine": 4_329_090, "model": 1_025_460}[simulator]


def test_windows_count_the_last_inputs() -> None:
    correct = np.array([True, False, True, True, False])
    assert correct_in_window(correct, 3).tolist() == [1, 1, 2, 2, 2]


def test_errors(recorded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DNC_DATA", raising=False)
    with pytest.raises(ValueError, match=r"^unknown simulator 'rtl'; choose engine or model$"):
        validate(simulator="rtl", files=[FILE])  # type: ignore[arg-type]
    text = (
        "no recordings (rtl-traces/*.npz) in a data folder (none given, DNC_DATA not set); name "
        "the folder that holds rtl-traces by data_dir (--data-dir) or DNC_DATA"
    )
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(text)}$"):
        validate()
    path = tmp_path / "damaged.npz"
    path.write_bytes(FILE.read_bytes()[:5000])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} is not an \.npz archive"):
        validate(files=[path])
    np.savez(path, layers=[1, 2])
    with pytest.raises(
        ValueError,
        match=r"^damaged is no recording of a run: it lacks z, P, fixed_point, lab",
    ):
        validate(files=[path])
    recorded["act1"] = recorded["act1"][:, :3]
    np.savez(path, **recorded)
    with pytest.raises(
        ValueError, match=r"^damaged: act1 was recorded as \[1, 3\], the machine gives \[1, 16\]$"
    ):
        validate(files=[path])


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    folder = data_dir("rtl-traces")
    data_dir("mnist")
    with np.load(folder / "rtl-traces" / "c_p0.npz") as stored:
        arrays = dict(stored)
    arrays["inputs_sha256"] = arrays["inputs_sha256"][::-1]
    path = tmp_path / "other.npz"
    np.savez(path, **arrays)
    with pytest.raises(
        ValueError, match=r"^other was recorded with other inputs than the first 2000 MNI"
    ):
        read_recording(path, folder)

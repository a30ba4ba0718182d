"""Which methods of a CUDA device are timed, in which order and for how long."""

from __future__ import annotations

import pytest
import torch
from sparse.gpu_stand_ins import Card

from dnc_sparse.backends import device_race

TILES = ("triton a", "triton b", "triton c", "triton d")


@pytest.mark.parametrize("compiling", [0.0, 0.5])
@pytest.mark.parametrize("samples", [16384, 65536])
def test_dense_arithmetic_is_timed_at_any_size(
    samples: int, compiling: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # blocks of 32 at 1/2, as docs/gpu-triton.md has them
    each = samples / 16384
    seconds = dict.fromkeys(TILES, 1.2e-3 * each) | {"dense": 0.7e-3 * each}
    card = Card(monkeypatch, seconds, compiling)
    assert card.decide() == ("dense", set(seconds))


@pytest.mark.parametrize("best", ["triton a", "dense", "cuda blocks", "separate"])
def test_the_first_of_each_kind_is_timed_however_long_it_takes(
    best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = dict.fromkeys([*TILES, "cuda blocks", "separate", "dense"], 0.3)
    seconds[best] = 0.1
    card = Card(monkeypatch, seconds, compiling=5.0)
    assert card.decide("backward") == (best, {"triton a", "dense", "cuda blocks", "separate"})
    assert card.compiled == ["dense", "triton a", "cuda blocks", "separate"]
    # one to be compared, and two to time one
    assert card.runs == 4 * 3


def test_the_best_of_many_short_ones_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {f"triton {i}": 1e-3 - i * 5e-5 for i in range(12)}
    seconds |= {"cuda edges": 1e-2, "dense": 7e-3}
    assert Card(monkeypatch, seconds, compiling=0.1).decide() == ("triton 11", set(seconds))


def test_compiling_ends_after_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {f"triton {i}": 1e-4 for i in range(12)} | {"cuda edges": 1e-4, "dense": 1e-4}
    card = Card(monkeypatch, seconds, compiling=0.75)
    sure, others = {"triton 0", "dense", "cuda edges"}, {"triton 1", "triton 2", "triton 3"}
    assert card.decide() == ("triton 0", sure | others)
    assert set(card.compiled) == sure | others


def test_the_clock_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch, {"a": 2e-3, "b": 1e-4})
    for name, runs in (("a", 1 + 1), ("b", 1 + 1 + 1 + 5)):
        card.runs = 0
        method = next(one for one in card.methods if str(one) == name)
        measured = device_race.device_seconds(lambda method=method: card._compute(method, "", ()))
        assert measured == pytest.approx(card.seconds[name])
        assert card.runs == runs


def test_agreement_is_about_finite_numbers() -> None:
    truth = torch.tensor([1.0, -100.0, float("nan"), float("inf")])
    assert device_race.agrees(truth, truth)
    assert device_race.agrees(torch.tensor([1.5, -100.0, 0.0, 0.0]), truth)
    assert not device_race.agrees(torch.tensor([3.0, -100.0, 0.0, 0.0]), truth)
    assert not device_race.agrees(torch.tensor([float("nan"), -100.0, 0.0, 0.0]), truth)
    assert device_race.agrees(torch.zeros(2), torch.full((2,), float("nan")))
    assert device_race.agrees(torch.zeros(0), torch.zeros(0))

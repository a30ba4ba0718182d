"""Denormal numbers are zeros while a network is trained, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from dnc_sparse import denormals
from dnc_sparse.data import DataSet, Split
from dnc_sparse.denormals import flushed_denormals
from dnc_sparse.training import Epoch, FitConfig, fit


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def zeros() -> float:
    """Return the share of denormal results that are zeros, over all threads."""
    return float((torch.full((1_000_000,), 2e-38) * 0.5 == 0).float().mean())


@pytest.mark.usefixtures("threads")
def test_every_thread_flushes_until_the_end() -> None:
    # threads that begin earlier do not inherit it
    assert zeros() == 0
    with flushed_denormals():
        assert zeros() == 1
        with flushed_denormals():
            assert zeros() == 1
        assert zeros() == 1
    assert zeros() == 0


def test_an_error_ends_it_too() -> None:
    with pytest.raises(KeyError), flushed_denormals():
        raise KeyError
    assert zeros() == 0


def test_the_calling_thread_does_without_the_compiled_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(denormals, "load", lambda name: None)
    with flushed_denormals():
        assert float(torch.tensor(2e-38) * 0.5) == 0
        with flushed_denormals():
            pass
        assert float(torch.tensor(2e-38) * 0.5) == 0
    assert float(torch.tensor(2e-38) * 0.5) > 0


def test_training_flushes() -> None:
    split = Split(torch.randn(8, 3), torch.tensor([0, 1] * 4))
    seen: list[float] = []

    def look(epoch: Epoch) -> None:
        seen.append(zeros())

    data = DataSet("toy", split, split, None, n_classes=2)
    fit(nn.Linear(3, 2), data, FitConfig(epochs=2, batch_size=4), progress=False, on_epoch=look)
    assert seen == [1, 1]
    assert zeros() == 0

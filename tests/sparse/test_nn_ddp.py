"""Data-parallel training over two processes gives the weights of one process, exactly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from sparse.ddp_worker import model_and_data, train
from torch import Tensor

WORKER = Path(__file__).with_name("ddp_worker.py")


def assert_equal(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert torch.equal(value.double(), expected[name].double()), name


def test_two_processes_train_the_weights_of_one(tmp_path: Path) -> None:
    model, x, y = model_and_data()
    start = model[0].weight.clone()  # type: ignore[index, operator]
    train(model, x, y)
    assert not torch.equal(start, model[0].weight)  # type: ignore[index, arg-type]
    exact, x, y = model_and_data()
    train(exact.double(), x.double(), y.double())
    assert_equal(model.state_dict(), exact.state_dict())
    workers = [
        subprocess.Popen([sys.executable, str(WORKER), str(rank), "2", str(tmp_path)])
        for rank in range(2)
    ]
    try:
        assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    for rank in range(2):
        weights = torch.load(tmp_path / f"weights{rank}.pt", weights_only=True)
        assert_equal(weights, model.state_dict())

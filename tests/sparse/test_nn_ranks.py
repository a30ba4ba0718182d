"""Processes that train one network must hold one pattern, whatever keeps their weights equal."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

from dnc_sparse.nn import SparseLinear

WORKER = Path(__file__).with_name("ranks_worker.py")
REFUSAL = (
    r"the weights belong to .* but this layer has .* give all ranks one pattern seed|"
    r"ranks [01] and [01] have the same weights over different patterns, \w{16} and \w{16}, so they"
    r" would train different networks: give every rank the same pattern seed"
)


def test_ranks_of_one_pattern_agree_and_others_are_refused(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, str(WORKER), str(rank), str(tmp_path)])
        for rank in range(2)
    ]
    try:
        assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    zero, one = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    for largest, loaded, expected in (zero.pop("shards"), one.pop("shards")):
        # uniform within 1 / sqrt(fan_in)
        assert 0.9 / 4 < largest <= 1 / 4
        assert loaded == pytest.approx(expected, rel=1e-6)
    assert len(zero) == 20
    for case in zero:
        said = [str(zero[case]), str(one[case])]
        if case.endswith("same seed"):
            assert isinstance(zero[case], float), (case, said)
            assert zero[case] == one[case], case
        else:
            assert re.search(REFUSAL, "\n".join(said)), (case, said)


@contextmanager
def pretending(rank: int, store: distributed.Store) -> Iterator[None]:
    """Be one of two processes, as far as the check can see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "is_initialized", lambda: True)
        patch.setattr(distributed, "get_world_size", lambda: 2)
        patch.setattr(distributed, "get_rank", lambda: rank)
        patch.setattr(distributed.distributed_c10d, "_get_default_store", lambda: store)
        yield


def forward_on(rank: int, seed: int, weight: Tensor, store: distributed.Store) -> None:
    layer = SparseLinear(16, 8, 0.25, seed=seed)
    with torch.no_grad():
        layer.weight.copy_(weight)
    with pretending(rank, store):
        layer(torch.ones(1, 16))


def test_weights_that_differ_or_that_nobody_drew_say_nothing() -> None:
    for weights in (
        [torch.randn(8, 4, 1, 1), torch.randn(8, 4, 1, 1)],
        [torch.zeros(8, 4, 1, 1)] * 2,
    ):
        store = distributed.HashStore()
        for rank, weight in enumerate(weights):
            forward_on(rank, rank, weight, store)


def test_the_first_rank_to_come_decides() -> None:
    store, weight = distributed.HashStore(), torch.randn(8, 4, 1, 1)
    forward_on(1, 5, weight, store)
    forward_on(0, 5, weight, store)
    with pytest.raises(RuntimeError, match=r"^ranks 1 and 0 have the same weights over different"):
        forward_on(0, 6, weight, store)

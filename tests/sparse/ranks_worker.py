"""One of two processes that build data-parallel networks, with equal pattern seeds and with others.

Arguments: rank, a folder that both processes share. Writes what each kind of network said.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from dnc_sparse.nn import SparseLinear
from dnc_sparse.patterns import from_mask


def seeded(seed: int) -> nn.Module:
    return nn.Sequential(SparseLinear(64, 64, 0.25, seed=seed), nn.Tanh(), SparseLinear(64, 8, 0.5))


def masked(seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(32, 64, generator=generator) < 0.2
    # the same number of edges in every row, so that shapes say nothing
    mask = torch.rand(32, 64, generator=generator).argsort(1) < int(mask.sum() / 32)
    return nn.Sequential(SparseLinear(64, 32, pattern=from_mask(mask)), nn.Tanh(), nn.Linear(32, 8))


def sharded(model: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model[0], mesh=mesh)  # type: ignore[index]
    return fully_shard(model, mesh=mesh)


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DDP": DistributedDataParallel,
    "DDP without buffers": lambda m: DistributedDataParallel(m, broadcast_buffers=False),
    "compiled DDP": lambda m: torch.compile(DistributedDataParallel(m), backend="aot_eager"),
    "DDP of compiled": lambda m: DistributedDataParallel(torch.compile(m, backend="aot_eager")),
    "FSDP2": sharded,
}


def outcome(wrapped: nn.Module, calls: int) -> object:
    """Return one output of the wrapped model, or what it said instead."""
    try:
        for _ in range(calls):
            y = wrapped(torch.ones(2, 64))
        return y.sum().item()
    # a compiler wraps the error
    except RuntimeError as error:
        return str(error)
    finally:
        torch.distributed.barrier()


def filled_shards() -> list[float]:
    """Return the largest weight that a sharded layer draws, and what it computes from a full state.

    The layer is built on the meta device, as FSDP's users build large ones.
    """
    torch.manual_seed(0)
    full = SparseLinear(64, 32, 0.25, block=4)
    with torch.device("meta"):
        layer = SparseLinear(64, 32, 0.25, block=4)
    fully_shard(layer, mesh=init_device_mesh("cpu", (2,)))
    layer.to_empty(device="cpu")
    layer.reset_parameters()
    largest = layer.weight.full_tensor().abs().max().item()  # type: ignore[operator]
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(layer, full.state_dict(), options=options)
    x = torch.ones(1, 64)
    return [largest, layer(x).sum().item(), full.to_dense()(x).sum().item()]


def main(rank: int, folder: Path) -> None:
    """Join the other process and try every kind."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    results = {}
    for name, wrap in WRAPPERS.items():
        for make in (seeded, masked):
            for differ in (False, True):
                torch.compiler.reset()
                # weights differ between ranks until they are synchronised
                torch.manual_seed(rank)
                case = f"{name}, {make.__name__}, {'other' if differ else 'same'} seed"
                # a second call meets buffers that were sent again; the other rank waits for none
                # where one refused the first
                results[case] = outcome(wrap(make(rank if differ else 0)), 1 if differ else 2)
    results["shards"] = filled_shards()
    (folder / f"rank{rank}.json").write_text(json.dumps(results))
    # see ddp_worker.py
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

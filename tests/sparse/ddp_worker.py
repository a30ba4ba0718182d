"""One process of the data-parallel test: train on its share of the batch and save the weights.

Arguments: rank, number of processes, a folder that all processes share.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dnc_sparse.nn import SparseLinear

BATCH, STEPS, RATE = 8, 2, 2.0**-2


def model_and_data() -> tuple[nn.Module, Tensor, Tensor]:
    """Start from small integers; two steps of a power of two then round nowhere in float32."""
    torch.manual_seed(0)
    model = nn.Sequential(SparseLinear(16, 8, 0.25, seed=1), nn.ReLU(), SparseLinear(8, 4, 0.5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape))
    x = torch.randint(-1, 2, (BATCH, 16)).float()
    return model, x, torch.randint(-1, 2, (BATCH, 4)).float()


def train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Take a few plain gradient steps on the squared error, averaged over the samples given."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((model(x) - y).square().sum() / len(x)).backward()
        optimizer.step()


def main(rank: int, world: int, folder: Path) -> None:
    """Join the other processes, train on every `world`-th sample, save the result."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), world)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    model, x, y = model_and_data()
    if rank:
        # other ranks start from the weights that rank 0 broadcasts
        nn.init.zeros_(model[0].weight)  # type: ignore[index, arg-type]
    train(DistributedDataParallel(model), x[rank::world], y[rank::world])
    torch.save(model.state_dict(), folder / f"weights{rank}.pt")
    torch.distributed.destroy_process_group()
    # gloo's threads outlive a group that DistributedDataParallel used, and now and then abort an
    # interpreter that ends in the usual way (pytorch/pytorch#179291); what is to be shown is saved
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))

"""The memory that training a network takes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from dnc_sparse.data import Split
from dnc_sparse.training import FitConfig, make_optimizer


def peak_bytes(model: nn.Module, batch: Split, config: FitConfig) -> int:
    """Return the bytes that a training step on a batch takes; the model stays as it is.

    On a GPU it is what the allocator had handed out at most. Elsewhere it is the sum of parameters
    and buffers, gradients, the optimiser's state and what autograd keeps of the batch for the way
    back, each storage once; scratch memory of single operations is not seen.
    """
    devices = [batch.x.device] if batch.x.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        if not devices:
            return _counted(copy.deepcopy(model), batch, config)
        # what others hold there is not the network's
        before = torch.cuda.memory_allocated(batch.x.device)
        torch.cuda.reset_peak_memory_stats(batch.x.device)
        _counted(copy.deepcopy(model), batch, config)
        return torch.cuda.max_memory_allocated(batch.x.device) - before


def _counted(model: nn.Module, batch: Split, config: FitConfig) -> int:
    """Take one step and return the bytes of all that it needs."""
    # storages are kept, so that none is freed and its address given to another
    held: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage
        return tensor

    for tensor in (*model.parameters(), *model.buffers()):
        keep(tensor)
    optimizer = make_optimizer(model, config)
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(batch.x)
        loss_of = nn.functional.mse_loss if batch.is_regression else nn.functional.cross_entropy
        loss = loss_of(output, batch.y)
    torch.autograd.backward(loss)
    optimizer.step()
    gradients = (p.grad for p in model.parameters() if p.grad is not None)
    states = (value for state in optimizer.state.values() for value in state.values())
    after = [tensor for tensor in (*gradients, *states) if isinstance(tensor, Tensor)]
    return sum(s.nbytes() for s in held.values()) + sum(t.untyped_storage().nbytes() for t in after)

"""Notice processes that hold the same weights over different patterns.

Data-parallel training gives every process the weights of one, or gathers them from all, but each
process draws its own pattern: with `seed=rank` they train different networks without a word.
`DistributedDataParallel` sends buffers too, where the record of the pattern shows it. This module
is for what sends none: FSDP, `broadcast_buffers=False`, loops written by hand.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, distributed

from dnc_sparse.patterns import Pattern

# weights that are looked at; that so many are equal by chance is out of the question
_SAMPLE = 4096


def refuse_other_patterns(weight: Tensor, pattern: Pattern) -> None:
    """Raise RuntimeError when another process has these very weights over other edges.

    Nobody waits: the first process to come leaves its pattern's digest in the store of the process
    group, under a name made of the weights, and the others compare theirs.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return
    if distributed.get_world_size() == 1 or not _is_plain(weight):
        return
    step = max(1, weight.numel() // _SAMPLE)
    sample = weight.detach().reshape(-1)[::step].to("cpu", torch.float64)
    # weights that nobody drew, such as zeros, may well be equal
    if not sample.numel() or bool((sample == sample[0]).all()):
        return
    name = hashlib.sha256(f"{list(weight.shape)}".encode() + sample.numpy().tobytes()).hexdigest()
    rank = distributed.get_rank()
    store = distributed.distributed_c10d._get_default_store()
    first = store.compare_set(f"dnc_sparse/{name}", "", f"{pattern.digest} {rank}")
    digest, other = first.decode().split()
    if digest != pattern.digest:
        raise RuntimeError(
            f"ranks {other} and {rank} have the same weights over different patterns, {digest} and "
            f"{pattern.digest}, so they would train different networks: give every rank the same "
            f"pattern seed; networks that differ on purpose need weights that differ, too"
        )


def _is_plain(weight: Tensor) -> bool:
    return (
        isinstance(weight, (Tensor, torch.nn.Parameter))
        and type(weight.data) is Tensor
        and not weight.is_meta
        and not torch._C._functorch.is_functorch_wrapped_tensor(weight)
    )

"""Zero-cost proxies: figures of a network before training that may foretell its error, higher is
better.

| name  | meaning                                                      | shape                 |
|-------|--------------------------------------------------------------|-----------------------|
| x     | a minibatch                                                  | [samples, n_features] |
| on    | 1 where a ReLU lets a sample pass, else 0                    | [samples, relus]      |
| agree | at how many ReLUs two samples do the same (Hamming kernel)   | [samples, samples]    |
| R     | sum of the outputs for an input of ones and weights |weight| |                       |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dnc_sparse import SparseLinear

SAMPLES = 128


def naswot(model: nn.Module, x: Tensor) -> float:
    """Return log det(agree + I): how differently the samples switch the ReLUs (J. Mellor et al.,
    Neural Architecture Search without Training, 2021, arXiv 2006.04647).

    The identity, which theirs has not, keeps it finite where two samples do the same; a network
    without a ReLU has 0. Batch norm takes its running statistics, so that nothing is changed.
    """
    agree = torch.eye(len(x), dtype=torch.float64, device=x.device)

    def compare(module: nn.Module, _: Any, y: Tensor) -> None:
        on = (y.flatten(1) > 0).float()
        agree.add_(on @ on.T + (1 - on) @ (1 - on).T)

    relus = [module for module in model.modules() if _applies_relu(module)]
    hooks = [module.register_forward_hook(compare) for module in relus]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return float(torch.linalg.slogdet(agree).logabsdet)


def synflow(model: nn.Module, x: Tensor) -> float:
    """Return log10 of the sum over weights of |weight| * dR/d|weight| (H. Tanaka et al., Pruning
    neural networks without any data by iteratively conserving synaptic flow, 2020, arXiv
    2006.05467). Only the shape of x counts.
    """
    size = {
        name: parameter.detach().abs().requires_grad_()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    flow = functional_call(model, size, (torch.ones_like(x[:1]),)).sum()
    slopes = torch.autograd.grad(flow, list(size.values()), allow_unused=True)
    pairs = zip(size.values(), slopes, strict=True)
    total = sum(float((w.detach() * slope).sum()) for w, slope in pairs if slope is not None)
    return math.log10(total) if total > 0 else -math.inf


PROXIES: Mapping[str, Callable[[nn.Module, Tensor], float]] = {
    "naswot": naswot,
    "synflow": synflow,
}


def minibatch(x: Tensor) -> Tensor:
    """Return samples from all over x: [n, n_features], as they may be sorted by class."""
    count = min(SAMPLES, len(x))
    return x[torch.arange(count) * len(x) // count]


def proxies(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Return the proxies of an untrained network by name, those that are finite.

    The network is left as it was.
    """
    was_training = model.training
    model.eval()
    try:
        found = {name: proxy(model, x) for name, proxy in PROXIES.items()}
    finally:
        model.train(was_training)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _applies_relu(module: nn.Module) -> bool:
    return isinstance(module, nn.ReLU) or (isinstance(module, SparseLinear) and module.relu)

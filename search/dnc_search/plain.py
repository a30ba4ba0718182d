"""A network written as plain PyTorch: the source of a class, and weights under its names.

Tracing (`torch.fx`) tells in which order modules and functions are called, whoever built them; a
module's own `repr` is how it is constructed. What was written is run and compared before it is
handed out, so that a network that this cannot express is an error, never a wrong script.
"""

from __future__ import annotations

import operator
import textwrap
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from dnc_sparse import Pattern, SparseLinear

# what the source of a class may name
SCOPE = {
    "torch": torch,
    "nn": nn,
    "operator": operator,
    "Pattern": Pattern,
    "SparseLinear": SparseLinear,
}


@dataclass(frozen=True)
class PlainNetwork:
    """Source of a class `Network` without arguments, and the state it loads.

    `sparse` tells whether the source needs `from dnc_sparse import Pattern, SparseLinear`.
    """

    source: str
    state: dict[str, Tensor]
    sparse: bool


def plain_network(model: nn.Module, n_features: int) -> PlainNetwork:
    """Return the network as plain PyTorch; it takes x: [batch, n_features].

    Raises ValueError for a network that cannot be traced or is built of modules whose `repr` does
    not rebuild them, and for one that, rebuilt, computes something else.
    """
    model = model.eval()
    try:
        graph = _Tracer().trace(model)
        traced = fx.GraphModule(model, graph)
        names = _flatten(traced)
        lines = [f"self.{name} = {_constructor(module)}" for name, module in names.items()]
        source = _SOURCE.format(
            modules=textwrap.indent("\n".join(lines) or "pass", " " * 8),
            forward=textwrap.indent(_forward(traced), " " * 4),
        )
        # a graph module shares the weights, under the new names
        state = dict(traced.state_dict())
        _check(source, state, model, n_features)
    except (fx.proxy.TraceError, SyntaxError, NameError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{type(model).__name__} cannot be written as plain PyTorch ({error}); give the space "
            f"a network whose forward calls modules of torch.nn and SparseLinear without branches"
        ) from error
    sparse = any(isinstance(module, SparseLinear) for module in names.values())
    return PlainNetwork(source, state, sparse)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Return whether a module stays one call: our layers as well as torch's."""
        return isinstance(module, SparseLinear) or super().is_leaf_module(module, name)


_SOURCE = '''class Network(nn.Module):
    """The network the search found."""

    def __init__(self):
        super().__init__()
{modules}

{forward}
'''


def _flatten(traced: fx.GraphModule) -> dict[str, nn.Module]:
    """Give every called module a name without dots and return them by name."""
    found: dict[str, nn.Module] = {}
    given: dict[str, str] = {}
    for node in traced.graph.nodes:
        if node.op == "get_attr":
            raise ValueError(
                f"the network reads {node.target!r} outside of a module and cannot be written as "
                f"plain PyTorch; put that parameter into a module of its own"
            )
        if node.op == "call_module":
            flat = str(node.target).replace(".", "_")
            # those of nn.Sequential are numbers
            name = given.setdefault(node.target, flat if flat.isidentifier() else f"layer_{flat}")
            found[name] = traced.get_submodule(node.target)
    for name, module in found.items():
        traced.add_module(name, module)
    for node in traced.graph.nodes:
        if node.op == "call_module":
            node.target = given[node.target]
    traced.delete_all_unused_submodules()
    traced.recompile()
    return found


def _constructor(module: nn.Module) -> str:
    if isinstance(module, SparseLinear):
        pattern = module.pattern
        more = "" if module.bias is not None else ", bias=False"
        more += ", relu=True" if module.relu else ""
        spec = f"Pattern.from_spec({pattern.spec!r})"
        return f"SparseLinear({pattern.n_in}, {pattern.n_out}, pattern={spec}{more})"
    # older releases of torch do not know the argument
    return f"nn.{module!r}".replace(", bias=True, track", ", track")


def _forward(traced: fx.GraphModule) -> str:
    """Return the source of forward without types and without what frees memory early."""
    (argument,) = [node.target for node in traced.graph.nodes if node.op == "placeholder"]
    _, *body = [line.split(";")[0] for line in traced.code.strip().splitlines() if line.strip()]
    return "\n".join([f"def forward(self, {argument}):", *body])


def _check(source: str, state: dict[str, Tensor], model: nn.Module, n_features: int) -> None:
    """Raise unless the source builds a network that computes what the model does."""
    scope: dict[str, Any] = dict(SCOPE)
    exec(compile(source, "<network>", "exec"), scope)
    with torch.random.fork_rng(devices=[]):
        rebuilt: nn.Module = scope["Network"]()
    rebuilt.load_state_dict(state)
    rebuilt.eval()
    place = next((p for p in model.parameters()), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, n_features, generator=generator).to(place.device, place.dtype)
    with torch.no_grad():
        same = torch.equal(rebuilt.to(place.device)(x), model(x))
    if not same:
        raise ValueError(
            f"{type(model).__name__} computes something else when it is rebuilt from its modules; "
            f"it cannot be written as plain PyTorch"
        )

"""How many operations the operators are, for `torch.utils.flop_counter.FlopCounterMode`.

That module imports triton, which takes most of a second, so formulas are registered when somebody
imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

from dnc_sparse.patterns import Pattern

_COUNTER = "torch.utils.flop_counter"


def register_formulas(counter: ModuleType) -> None:
    """Tell torch's counter of the operators."""
    ops = torch.ops.dnc_sparse
    counter.register_flop_formula(ops.forward)(_forward)
    counter.register_flop_formula([ops.grad_input, ops.grad_weight])(_gradient)
    counter.register_flop_formula(ops.backward)(_backward)


class _AtImport(MetaPathFinder):
    """Register as soon as the counter is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _COUNTER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_register(module: ModuleType) -> None:
                run(module)
                register_formulas(module)

            spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


def _operations(samples: Any, key: str) -> Any:
    """Return the operations of one of the three functions: a product and a sum per edge."""
    count = 2 * Pattern.from_key(key).n_edges
    for size in samples[:-1]:
        count *= size
    return count


def _forward(x: Any, weight: Any, bias: Any, pattern: str, *_: Any, **__: Any) -> Any:
    return _operations(x, pattern)


def _gradient(grad_y: Any, other: Any, pattern: str, *_: Any, **__: Any) -> Any:
    return _operations(grad_y, pattern)


def _backward(grad_y: Any, x: Any, weight: Any, pattern: str, *_: Any, **__: Any) -> Any:
    return 2 * _operations(grad_y, pattern)


if _COUNTER in sys.modules:
    register_formulas(sys.modules[_COUNTER])
else:
    sys.meta_path.insert(0, _AtImport())

"""Conversions return the model, and its report is asked for by `conversion_report`."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn

from dnc_sparse.nn import (
    Report,
    conversion_report,
    densify,
    report,
    sparsify,
    sparsify_like,
)


class Alike(nn.Module):
    """Equal to every other of its class."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x)
        return out

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike)

    def __hash__(self) -> int:
        return 7


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))


def again_like(model: nn.Sequential) -> nn.Sequential:
    return sparsify_like(model, sparsify(network(), 0.25).state_dict())


CONVERSIONS: dict[str, Callable[[nn.Sequential], nn.Sequential]] = {
    "density": lambda model: sparsify(model, 0.25),
    "budget": lambda model: sparsify(model, budget=4000),
    "example": lambda model: sparsify(model, 0.25, example=torch.ones(2, 64)),
    "densify": lambda model: densify(sparsify(model, 0.25)),
    "like": again_like,
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions_return_the_same_model(name: str) -> None:
    model = network()
    assert CONVERSIONS[name](model) is model
    rows = conversion_report(model).rows
    assert [row.names for row in rows if row.replaced] == [("0",), ("2",)]


def test_calls_chain() -> None:
    model = sparsify(network(), 0.25).to(torch.float64).eval()
    assert model(torch.ones(2, 64, dtype=torch.float64)).shape == (2, 64)
    assert model[0].weight.dtype == torch.float64
    assert len(conversion_report(model).replaced) == 2
    assert "SparseLinear(64, 128, density=0.25" in str(model)


def test_the_report_is_that_of_the_last_conversion() -> None:
    model = sparsify(network(), 0.25)
    assert conversion_report(model).verb == "replaced"
    densify(model)
    assert conversion_report(model).verb == "made dense"
    sparsify(model, 0.5, skip=["0"])
    assert [row.replaced for row in conversion_report(model).rows] == [False, True]
    with pytest.raises(ValueError, match=r"^give exactly one of"):
        sparsify(model)
    assert [row.replaced for row in conversion_report(model).rows] == [False, True]


def test_models_that_are_equal_have_reports_of_their_own() -> None:
    first, second = sparsify(Alike(), 0.25), sparsify(Alike(), 0.5)
    assert first == second
    assert conversion_report(first).rows[0].asked == 0.25
    assert conversion_report(second).rows[0].asked == 0.5
    with pytest.raises(ValueError, match=r"^this Alike was not converted in this process: "):
        conversion_report(Alike())


def test_a_report_goes_with_its_model_only() -> None:
    model = sparsify(network(), 0.25)
    others = {
        "Sequential": [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), network()],
        "DataParallel": [nn.DataParallel(model)],
        "SparseLinear": [model[0]],
    }
    for name, modules in others.items():
        text = (
            f"^this {name} was not converted in this process: no sparsify, densify or "
            f"sparsify_like changed it. A report belongs to the very model that sparsify returned, "
            f"not to a copy of it, a part, a wrapper, or a model loaded from a file$"
        )
        for module in modules:
            with pytest.raises(ValueError, match=text):
                conversion_report(module)


def test_a_model_that_is_gone_leaves_no_report() -> None:
    gc.collect()
    before = len(report._REPORTS)
    model = sparsify(network(), 0.25)
    kept, gone = conversion_report(model), weakref.ref(model)
    assert len(report._REPORTS) == before + 1
    del model
    gc.collect()
    assert gone() is None
    assert len(report._REPORTS) == before
    assert len(kept.replaced) == 2


@pytest.mark.parametrize(("thing", "kind"), [(None, "NoneType"), (Report(()), "Report")])
def test_only_models_have_reports(thing: object, kind: str) -> None:
    text = f"^conversion_report takes the model that sparsify returned; got a {kind}$"
    with pytest.raises(TypeError, match=text):
        conversion_report(thing)  # type: ignore[arg-type]


def test_reports_are_copied_and_pickled() -> None:
    made = conversion_report(sparsify(network(), 0.25))
    assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made

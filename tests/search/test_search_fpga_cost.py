"""The example of a user's own complexity: clocks per input of the modelled FPGA."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from search.tiny_space import CLASSES, SparseSpace, TinySpace, config, measured
from torch import nn

from dnc_hw import Machine, resources_of
from dnc_search.evaluation import evaluate, measure_baseline
from dnc_search.space import Shape
from dnc_sparse import SparseMLP

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "search_fpga_cost:clocks_per_input"


@pytest.fixture
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / "search_fpga_cost.py"))


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "search_fpga_cost.py"), run_name="__main__")
    dense, regular, clash_free = re.findall(r": (\d+) clocks per input\n", capsys.readouterr().out)
    # a regular pattern reads some memories twice at a time, which the machine waits for
    assert int(dense) > int(regular) > int(clash_free)


def test_clocks_are_edges_over_lanes(example: dict[str, Any]) -> None:
    """784-10 on 90 DSP: 56 lanes are the most that divide 784, and 2 clocks flush."""
    clocks = example["clocks_per_input"]({}, Shape(784, 10), nn.Sequential(nn.Linear(784, 10)))
    assert clocks == 7840 / 56 + 2


@pytest.mark.parametrize("block", [4, 8])
def test_blocks_are_counted_edge_by_edge(example: dict[str, Any], block: int) -> None:
    network = SparseMLP((64, 32), 0.5, block=block)
    single = SparseMLP((64, 32), 0.5, block=1)
    clocks = [example["clocks_per_input"]({}, Shape(64, 32), net) for net in (network, single)]
    # 1,024 edges on 64 lanes at the best, and 2 clocks flush
    assert min(clocks) >= 1024 / 64 + 2
    assert clocks[0] == pytest.approx(clocks[1], rel=1)


def test_the_lanes_fit_the_device(example: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Machine] = []
    build = Machine.from_patterns

    def watch(*arguments: Any, **options: Any) -> Machine:
        built.append(build(*arguments, **options))
        return built[-1]

    monkeypatch.setattr(Machine, "from_patterns", watch)
    example["clocks_per_input"]({}, Shape(64, 8), SparseMLP((64, 32, 8), 0.25, family="regular"))
    dsp = [resources_of(machine).dsp for machine in built]
    assert max(dsp) <= example["DEVICE"].dsp
    # not for want of trying
    assert max(dsp) > example["DEVICE"].dsp / 2


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 3)), r"^the machine has no Conv2d$"),
        (nn.ReLU(), r"^the network has no junction$"),
        (
            SparseMLP((64, 32, 8), 0.25, family="clash_free", banks=32),
            r"^no lanes serve \[.*: the 90 DSP of xc7a35t are too few$",
        ),
    ],
)
def test_networks_that_the_machine_cannot_be(
    example: dict[str, Any], network: nn.Module, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        example["clocks_per_input"]({}, Shape(64, 8), network)


def test_a_search_can_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    settings = measured("parameters", NAME)
    sparse = evaluate(SparseSpace(), config(16), CLASSES, settings)
    baseline = measure_baseline(TinySpace(), CLASSES, settings)
    assert sparse.failure is None
    assert min(sparse.measures[NAME], baseline.measures[NAME]) > 2

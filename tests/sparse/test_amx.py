"""The kernels for AMX against the oracle, and their place in the planner."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from support import (
    assert_exact,
    assert_within_bound,
    balanced_tiles,
    normals,
    random_blocks,
    small_integers,
)

from dnc_sparse import _cpu
from dnc_sparse.backends import amx, cpu, planner
from dnc_sparse.backends.planner import AMX, DENSE, Case, Decision, Method
from dnc_sparse.patterns import Pattern, nearest

needs_amx = pytest.mark.skipif(amx.unavailable() is not None, reason=f"amx: {amx.unavailable()}")
BF16 = torch.bfloat16

PATTERNS = {
    "varying 1x1": random_blocks(37, 300, 0.3),
    "varying 1x3": random_blocks(37, 30, 0.3, (1, 3)),
    "varying 3x1": random_blocks(13, 70, 0.3, (3, 1)),
    "varying 2x2": random_blocks(19, 33, 0.4, (2, 2)),
    "varying 5x16": random_blocks(7, 9, 0.4, (5, 16)),
    "varying 8x32": random_blocks(5, 3, 0.6, (8, 32)),
    "balanced": balanced_tiles(784, 40, 98, 7),
    "more sums than a chunk of steps": balanced_tiles(2048, 70, 64, 3),
    "fully connected": random_blocks(33, 65, 1.0),
    "no edge": random_blocks(4, 6, 0.0),
    "one neuron": random_blocks(1, 1, 1.0),
}


@needs_amx
@pytest.mark.parametrize("name", PATTERNS)
def test_equals_oracle_on_small_integers(name: str) -> None:
    for batch in (0, 1, 16, 17, 33, 70):
        assert_exact(small_integers(PATTERNS[name], batch, BF16), amx)


@needs_amx
def test_equals_oracle_where_a_batch_is_cut_into_parts() -> None:
    # panels of more samples, or of more inputs, than are packed at once
    assert_exact(small_integers(balanced_tiles(64, 40, 32, 3), 1100, BF16), amx)
    assert_exact(small_integers(balanced_tiles(1184, 35, 37, 1), 1030, BF16), amx)


@needs_amx
@pytest.mark.parametrize("name", ["varying 1x1", "varying 2x2", "more sums than a chunk of steps"])
def test_within_bound_of_oracle(name: str) -> None:
    assert_within_bound(normals(PATTERNS[name], 600, BF16), amx)


@needs_amx
def test_accepts_any_strides() -> None:
    case = small_integers(PATTERNS["varying 2x2"], 40, BF16)
    assert_exact(case.map(lambda t: t.mT.contiguous().mT if t.dim() == 2 else t), amx)
    assert_exact(case.map(lambda t: t.repeat_interleave(2, dim=-1)[..., ::2]), amx)
    assert_exact(case.map(lambda t: torch.complex(t.float(), -t.float()).conj().imag.to(BF16)), amx)


@needs_amx
def test_applies_relu_after_the_bias() -> None:
    case = small_integers(PATTERNS["varying 1x1"], 40, BF16)
    y = amx.forward(case.x, case.weight, case.bias, case.pattern)
    rectified = amx.forward(case.x, case.weight, case.bias, case.pattern, relu=True)
    assert bool((y < 0).any())
    assert torch.equal(rectified, y.relu())


@needs_amx
@pytest.mark.parametrize("n_out", [20, 1030])
def test_result_does_not_depend_on_threads(n_out: int) -> None:
    case = normals(balanced_tiles(544, n_out, 32, 9), 300, BF16)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(case.results(amx))
    finally:
        torch.set_num_threads(before)
    for name, result in results[0].items():
        assert torch.equal(result, results[1][name]), name
        assert torch.equal(result, results[2][name]), name


@needs_amx
@pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning")
def test_leaves_no_gap_in_its_results() -> None:
    # this mode fills torch.empty with NaN
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        for pattern in PATTERNS.values():
            assert_exact(small_integers(pattern, 3, BF16), amx)
    finally:
        torch.use_deterministic_algorithms(False)


def test_says_what_it_cannot_do() -> None:
    assert amx.unavailable(torch.float32) == "AMX multiplies torch.bfloat16, not torch.float32"
    assert amx.unavailable(BF16, (3, 5)) == (
        "blocks of 3x5 straddle masks of 32 inputs; choose a divisor of 32 for 5"
    )


def test_masks_refuse_blocks_that_straddle_them() -> None:
    pattern = random_blocks(3, 4, 1.0, (2, 3))
    message = r"^blocks of 2 x 3 would straddle masks of 32 columns$"
    with pytest.raises(ValueError, match=message):
        _cpu.Masks(pattern.sources, pattern.columns, 2, 3)


@pytest.mark.skipif(amx.unavailable() is None, reason="this processor has AMX")
def test_a_processor_without_amx_says_so() -> None:
    case = small_integers(random_blocks(3, 4, 1.0), 2, BF16)
    with pytest.raises(RuntimeError, match=f"^{amx.unavailable()}$"):
        case.results(amx)


# --- the planner


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the planner think that AMX is there, and be asked nothing more."""
    monkeypatch.setattr(
        amx, "unavailable", lambda dtype, block: None if dtype == BF16 else "not bfloat16"
    )


def decide(dtype: torch.dtype, density: float, batch: int = 128) -> Decision[Method]:
    pattern: Pattern = nearest(256, 256, density=density)
    inputs = normals(pattern, batch, dtype)
    arguments = (inputs.x, inputs.weight, inputs.bias, pattern)
    return planner.decide(Case(cpu.FORWARD, pattern, batch, dtype), 1, arguments)


@pytest.mark.usefixtures("usable")
def test_amx_races_where_there_is_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    raced = []

    def rigged(runs: Iterable[tuple[str, object]]) -> dict[str, float]:
        raced.append([name for name, _ in runs])
        return {name: 1.0 if name == "amx" else 2.0 for name in raced[-1]}

    monkeypatch.setattr(planner, "race", rigged)
    decision = decide(BF16, 1 / 2)
    assert decision.method is AMX
    assert raced[-1][1:] == ["amx", "dense"]
    decide(torch.float32, 1 / 2)
    assert raced[-1][1:] == ["dense"]


@pytest.mark.usefixtures("usable")
def test_amx_takes_little_work_unless_it_is_sparse_or_of_few_samples() -> None:
    assert decide(BF16, 1 / 8, batch=16).method is AMX
    assert decide(BF16, 1 / 16, batch=16).method == Method(cpu.active_instruction_set())
    assert decide(BF16, 1 / 8, batch=2).method == Method(cpu.active_instruction_set())
    assert decide(torch.float32, 1 / 8, batch=16).method == Method(cpu.active_instruction_set())


@pytest.mark.usefixtures("usable")
def test_deterministic_algorithms_take_amx_for_dense() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        decision = decide(BF16, 1 / 8, batch=1024)
        assert decision.method is AMX
        assert decision.reason == (
            "deterministic algorithms: amx from density 0.125 and 4 samples, not measured"
        )
        assert decide(torch.float32, 1.0, batch=1024).method is DENSE
    finally:
        torch.use_deterministic_algorithms(False)


@needs_amx
@pytest.mark.parametrize("other", [AMX, DENSE, Method("scalar")])
def test_backward_computes_each_gradient_by_its_own_method(
    other: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        planner, "choose", lambda function, *_: AMX if function.name == "grad_input" else other
    )
    assert_exact(small_integers(nearest(64, 96, density=1 / 2), 40, BF16), cpu)

"""The planner of CUDA devices, with kernels that stand in for a GPU's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import torch
from sparse.gpu_stand_ins import BATCH, PATTERN, arguments, decide, put_in_place
from support import assert_exact, normals, small_integers

import dnc_sparse
from dnc_sparse import backends
from dnc_sparse.backends import device_race, explanation, gpu, planner, triton
from dnc_sparse.backends.gpu import DENSE, SEPARATE, Case
from dnc_sparse.patterns import nearest


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put stand-ins in place of all kernels; the list fills with what was called."""
    return put_in_place(monkeypatch)


@pytest.fixture
def raced(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let "triton b" and "cuda c" win each race; the list fills with who ran."""
    races: list[list[str]] = []

    def rigged(entrants: Iterable[tuple[str, object]], *_: object) -> dict[str, float]:
        races.append([name for name, _ in entrants])
        return {name: 2.0 - (name in ("triton b", "cuda c")) for name in races[-1]}

    monkeypatch.setattr(device_race, "race", rigged)
    return races


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("calls", "raced")
def test_equals_the_oracle_by_whatever_method() -> None:
    for mode in ("measured", "sparse", "dense"):
        with planner.use(mode):  # type: ignore[arg-type]
            assert_exact(small_integers(PATTERN, BATCH, torch.float32), gpu)


def test_the_fastest_method_is_taken_and_remembered(
    calls: list[str], raced: list[list[str]]
) -> None:
    pattern = nearest(256, 256, density=1 / 8, block=16, seed=1)
    inputs = arguments(normals(pattern, BATCH, torch.float32))
    for _ in range(2):
        gpu.forward(*inputs["forward"])
    assert raced == [["triton a", "dense", "cuda c", "triton b"]]
    # each ran once to be compared, then the winner twice
    assert calls == [
        *("triton a forward", "cuda c forward", "triton b forward"),
        *(["cuda c forward"] * 2),
    ]
    # another process finds what this one measured
    del pattern._plans["methods", torch.device("cpu")]
    gpu.forward(*inputs["forward"])
    assert len(raced) == 1
    assert decide().reason == "measured on a card"


@pytest.mark.usefixtures("calls")
def test_gradients_one_by_one_are_a_method(raced: list[list[str]]) -> None:
    assert str(decide("backward").method) == "triton b"
    assert raced[-1] == ["triton a", "dense", "separate", "triton b"]
    inputs = normals(PATTERN, BATCH, torch.float32)
    grads = gpu.compute(SEPARATE, "backward", (*arguments(inputs)["backward"][:4], False))
    assert grads[2] is None


def test_triton_runs_every_method(monkeypatch: pytest.MonkeyPatch) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if (reason := triton.unavailable(device, torch.float16)) is not None:
        pytest.skip(f"triton: {reason}")
    monkeypatch.setattr(gpu, "KERNELS", {"triton": triton})
    pattern = nearest(64, 64, density=1 / 2, block=16)
    inputs = small_integers(pattern, 20, torch.float16).map(lambda tensor: tensor.to(device))
    for function, values in arguments(inputs).items():
        case = Case(function, pattern, 20, torch.float16, inputs.x.device)
        methods = case.methods()
        assert len(methods) > 1
        assert len({str(method) for method in methods}) == len(methods)
        truth = device_race.tensors(gpu.compute(DENSE, function, values))
        for method in methods:
            if method != SEPARATE:
                result = device_race.tensors(gpu.compute(method, function, values))
                assert all(map(torch.equal, result, truth)), str(method)


@pytest.mark.usefixtures("deterministic", "calls")
@pytest.mark.parametrize(("density", "dense"), [(1 / 8, False), (1 / 2, True)])
def test_deterministic_algorithms_measure_nothing(
    density: float, dense: bool, raced: list[list[str]]
) -> None:
    decision = decide(pattern=nearest(256, 256, density=density, block=16), dtype=torch.bfloat16)
    assert (decision.method == DENSE) is dense
    assert decision.reason == (
        "nothing may be timed now: sparse below density 0.2, where it should win"
    )
    assert not raced


@pytest.mark.usefixtures("calls")
def test_without_a_kernel_dense_arithmetic_computes(raced: list[list[str]]) -> None:
    for function in gpu.FUNCTIONS:
        decision = decide(function, dtype=torch.float64)
        assert decision.method == DENSE
        assert decision.reason == "no sparse kernel takes this junction in this dtype"
    assert not raced


@pytest.mark.usefixtures("calls")
def test_a_clear_loss_is_not_measured(raced: list[list[str]]) -> None:
    pattern = nearest(256, 256, density=1 / 8, block=2)
    decision = decide(pattern=pattern, dtype=torch.bfloat16)
    assert decision.method == DENSE
    assert decision.reason == "density above 0.1: dense wins in bfloat16"
    assert not raced


@pytest.mark.parametrize(
    ("side", "dtype", "tf32", "density"),
    [
        (128, torch.bfloat16, False, 0.8),
        (32, torch.float16, False, 0.4),
        (4, torch.bfloat16, False, 1 / 40),
        (1, torch.float32, False, 0.25),
        (1, torch.float32, True, 1 / 40),
    ],
)
def test_even_density(
    side: int, dtype: torch.dtype, tf32: bool, density: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_tf32", lambda dtype: tf32)
    assert gpu.even_density(nearest(256, 256, density=1 / 2, block=side), dtype) == density


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_unavailable_without_a_gpu() -> None:
    assert gpu.unavailable("cpu") == "it computes on CUDA devices, not on 'cpu'"
    assert gpu.unavailable() == "torch finds no CUDA device"
    message = r"^backend 'gpu' cannot run here: torch finds no CUDA"
    with pytest.raises(RuntimeError, match=message), backends.use_backend("gpu"):
        pass
    with pytest.raises(RuntimeError, match=r"^the planner cannot run here: torch finds no CUDA"):
        dnc_sparse.explain(PATTERN, 16, device="cuda")


@pytest.mark.usefixtures("calls", "raced")
def test_explain_tells_every_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "unavailable", lambda device=None, dtype=None: None)
    # there is no such device here: its tensors are on the CPU
    inputs = arguments(normals(PATTERN, BATCH, torch.float32))
    monkeypatch.setattr(explanation, "_calls", lambda *junction: inputs)
    lines = str(dnc_sparse.explain(PATTERN, BATCH, device="cuda")).splitlines()
    assert lines[0].endswith("batch 40, float32, a card")
    assert [line.split()[0] for line in lines[2:6]] == list(gpu.FUNCTIONS)
    assert "cuda c    measured on a card" in lines[2]
    assert sum("all methods" in line for line in lines) == 4

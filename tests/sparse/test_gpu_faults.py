"""Methods that fail on a CUDA device: others go on, and what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sparse.gpu_stand_ins import BATCH, PATTERN, Card, arguments, decide, put_in_place
from support import assert_exact, normals, small_integers

import dnc_sparse
from dnc_sparse.backends import (
    device_race,
    explanation,
    gpu,
    measurements,
    padded,
    planner,
    reference,
)
from dnc_sparse.backends.device_race import DeviceLostError
from dnc_sparse.backends.gpu import DENSE, SEPARATE, Method
from dnc_sparse.patterns import from_mask, nearest

NEED = "out of resource: shared memory, Required: 300000"
REFUSED = (
    r" has not run before, and while a CUDA graph is captured no kernel can be timed or loaded and "
    r"no table copied; run it once with such inputs before the capture$"
)
UNSEEN = r"^forward of Pattern\(.*\) with 40 samples in float32" + REFUSED


class OutOfResources(Exception):
    """As Triton's: no RuntimeError."""


class Faults:
    """What each kernel raises, by its name, once one is put here."""

    def __init__(self) -> None:
        self.errors: dict[str, BaseException] = {}

    def __call__(self, name: str) -> None:
        if name in self.errors:
            raise self.errors[name]


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, faults: Faults) -> list[str]:
    """Put stand-ins in place of all kernels, which all take equally long."""
    calls = put_in_place(monkeypatch, faults)
    monkeypatch.setattr(device_race, "device_seconds", lambda run: 1.0)
    return calls


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what begins the capture of a graph."""

    def begin() -> None:
        for module in (gpu, padded):
            monkeypatch.setattr(module, "capturing", lambda device: True)

    return begin


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what stands in for a kernel that breaks the device."""

    def lose(*_: object) -> None:
        def broken(device: torch.device) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        monkeypatch.setattr(device_race, "synchronize", broken)

    return lose


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def inputs(seed: int = 0) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of each function for a pattern that nothing has seen."""
    pattern = nearest(256, 256, density=1 / 8, block=16, seed=seed)
    return arguments(normals(pattern, BATCH, torch.float32))


# --- while methods are compared


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("error", [OutOfResources(f"{NEED}\nmore"), RuntimeError(NEED)])
def test_a_method_that_fails_is_left_out(error: Exception, faults: Faults) -> None:
    faults.errors["triton a"] = error
    message = (
        rf"^triton a fails and is not used \({type(error).__name__}: {NEED}\): a card: forward "
        r"256 -> 256 16x16, clash_free, 8192 edges in 2 slots, batch 64, float32; please report "
        r"this$"
    )
    with pytest.warns(UserWarning, match=message):
        decision = decide()
    assert list(decision.seconds) == [DENSE, Method("cuda", "c"), Method("triton", "b")]
    # nor does another process try it
    measurements._loaded.clear()
    assert decide() == decision


@pytest.mark.usefixtures("calls")
def test_a_wrong_method_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def loses_a_row(function: str, config: str, arguments: tuple[Any, ...]) -> Any:
        y = reference.forward(*arguments)
        y[-1] = 0
        return y

    monkeypatch.setattr(gpu.KERNELS["triton"], "run", loses_a_row)
    message = r"^triton [ab] gives another result than dense arithmetic and is not used: a card"
    with pytest.warns(UserWarning, match=message):
        decision = decide()
    assert list(decision.seconds) == [DENSE, Method("cuda", "c")]
    # nor does another process try it
    measurements._loaded.clear()
    assert decide() == decision


@pytest.mark.usefixtures("calls", "deterministic")
@pytest.mark.parametrize("fault", ["fails", "wrong"])
def test_where_nothing_is_timed_dense_arithmetic_takes_over(
    fault: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults.errors["triton a"] = RuntimeError(NEED)
    message = r"^triton a fails and is not used"
    if fault == "wrong":
        monkeypatch.setattr(gpu.KERNELS["triton"], "run", lambda *_: torch.zeros(BATCH, 256))
        message = r"^triton a gives another result"
    with pytest.warns(UserWarning, match=message):
        assert decide().method == DENSE


@pytest.mark.usefixtures("calls")
def test_gradients_one_by_one_survive_a_method_that_fails(faults: Faults) -> None:
    faults.errors["triton a"] = faults.errors["triton b"] = RuntimeError(NEED)
    case = small_integers(nearest(256, 256, density=1 / 8, block=16), BATCH, torch.float32)
    with pytest.warns(UserWarning, match=r"^triton [ab] fails and is not used"):
        assert_exact(case, gpu)
    # each gradient by dense arithmetic is what is left beside all of it
    assert list(decide("backward").seconds) == [DENSE, SEPARATE]


@pytest.mark.usefixtures("calls")
def test_explain_leaves_out_what_fails(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    faults.errors["triton a"] = RuntimeError(NEED)
    monkeypatch.setattr(gpu, "unavailable", lambda device=None, dtype=None: None)
    # there is no such device here: its tensors are on the CPU
    values = arguments(normals(PATTERN, BATCH, torch.float32))
    monkeypatch.setattr(explanation, "_calls", lambda *junction: values)
    with pytest.warns(UserWarning, match=r"^triton a fails"):
        text = str(dnc_sparse.explain(PATTERN, BATCH, device="cuda"))
    assert "triton b" in text
    assert "triton a" not in text


@pytest.mark.usefixtures("calls")
def test_stopping_by_hand_is_no_fault(faults: Faults) -> None:
    faults.errors["triton a"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        decide()
    with planner.use("sparse"), pytest.raises(KeyboardInterrupt):
        gpu.forward(*inputs()["forward"])


# --- a device that is lost


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("function", ["forward", "backward"])
def test_a_lost_device_is_told(
    function: str, faults: Faults, lost: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    def breaks(*_: object) -> None:
        lost()
        raise error

    monkeypatch.setattr(gpu.KERNELS["triton"], "run", breaks)
    message = (
        r"^triton a broke cpu, and nothing more can run there in this process \(RuntimeError: CUDA "
        rf"error: an illegal memory access was encountered\): a card: {function} .*; start again "
        r"with DNC_SPARSE_BACKEND=reference, and please report this$"
    )
    with pytest.raises(DeviceLostError, match=message) as raised:
        decide(function)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("mode", ["measured", "sparse"])
def test_a_device_that_is_lost_later_is_told(
    mode: Any, calls: list[str], lost: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = inputs()["forward"]
    with planner.use(mode):
        gpu.forward(*values)

        def breaks(*_: object) -> None:
            lost()
            raise RuntimeError("CUDA error: unspecified launch failure")

        monkeypatch.setattr(gpu.KERNELS["triton"], "run", breaks)
        with pytest.raises(DeviceLostError, match=r"^triton a broke cpu, and nothing more"):
            gpu.forward(*values)


def test_a_device_that_is_lost_while_it_is_timed_is_told(
    lost: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card(monkeypatch, {"triton a": 1e-3, "dense": 1e-3})
    compute = gpu.compute

    def breaks(*values: Any) -> Any:
        if card.runs == 5:
            lost()
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return compute(*values)

    monkeypatch.setattr(gpu, "compute", breaks)
    with pytest.raises(DeviceLostError, match=r"^a timed method broke cpu, and nothing more can"):
        decide()


@pytest.mark.usefixtures("calls")
def test_what_broke_before_is_not_our_fault(lost: Callable[..., None]) -> None:
    lost()
    with pytest.raises(RuntimeError, match=r"^CUDA error: an illegal memory access"):
        decide()


# --- memory


@pytest.mark.parametrize("name", ["triton a", "cuda c", "dense"])
def test_without_memory_to_compare_in_the_favourite_is_taken(
    name: str, calls: list[str], faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to")
    faults.errors[name] = error
    with monkeypatch.context() as dense:
        if name == "dense":
            dense.setattr(reference, "dense_weight", lambda *_: (_ for _ in ()).throw(error))
        message = (
            r"^triton a is taken unmeasured, as memory is too short to compare methods: a card"
        )
        with pytest.warns(UserWarning, match=message):
            decision = decide()
    assert decision.method == Method("triton", "a")
    assert decision.reason == "memory is too short to compare methods: the sparse favourite"
    # another process may have the memory
    faults.errors.clear()
    assert len(decide().seconds) == 4


@pytest.mark.usefixtures("calls", "deterministic")
def test_a_rule_does_not_depend_on_memory(faults: Faults) -> None:
    faults.errors["triton a"] = torch.OutOfMemoryError("CUDA out of memory. Tried to")
    assert decide().method == Method("triton", "a")


@pytest.mark.usefixtures("calls")
def test_a_call_that_lacks_memory_raises_and_is_not_changed(faults: Faults) -> None:
    values = inputs()["forward"]
    gpu.forward(*values)
    faults.errors["triton a"] = torch.OutOfMemoryError("CUDA out of memory. Tried to")
    with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory"):
        gpu.forward(*values)
    faults.errors.clear()
    gpu.forward(*values)


# --- later


@pytest.mark.parametrize("function", gpu.FUNCTIONS)
def test_a_chosen_method_that_fails_gives_way_to_dense(
    function: str, calls: list[str], faults: Faults
) -> None:
    values = inputs()[function]
    call = getattr(gpu, function)
    call(*values)
    assert calls[-1] == f"triton a {function}"
    faults.errors["triton a"] = RuntimeError("Triton Error [CUDA]: invalid argument")
    with pytest.warns(UserWarning, match=r"^triton a fails and is not used \(RuntimeError: Triton"):
        result = device_race.tensors(call(*values))
    for one, truth in zip(
        result, device_race.tensors(getattr(reference, function)(*values)), strict=True
    ):
        assert torch.equal(one, truth)
    before = len(calls)
    call(*values)
    assert len(calls) == before


@pytest.mark.usefixtures("calls")
def test_a_method_asked_for_by_name_is_not_replaced(faults: Faults) -> None:
    faults.errors["triton a"] = error = OutOfResources(NEED)
    message = (
        rf"^triton a fails \(OutOfResources: {NEED}\): a card: backward .*; "
        r"planner.use\('measured'\) takes another method$"
    )
    with planner.use("sparse"), pytest.raises(RuntimeError, match=message) as raised:
        gpu.backward(*inputs()["backward"])
    assert raised.value.__cause__ is error


@pytest.mark.usefixtures("calls")
def test_gradients_one_by_one_say_which_failed(
    faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    # no kernel computes both
    monkeypatch.setattr(
        gpu.KERNELS["triton"],
        "candidates",
        lambda function, *junction: () if function == "backward" else ("a",),
    )
    faults.errors["triton a"] = OutOfResources(NEED)
    message = rf"^triton a fails \(OutOfResources: {NEED}\): a card: grad_input "
    with planner.use("sparse"), pytest.raises(RuntimeError, match=message):
        gpu.backward(*inputs()["backward"])


@pytest.mark.usefixtures("calls")
def test_dense_arithmetic_has_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("cuBLAS error")

    monkeypatch.setattr(reference, "dense_weight", fails)
    with pytest.raises(RuntimeError, match=r"^cuBLAS error$"):
        decide()
    with planner.use("dense"), pytest.raises(RuntimeError, match=r"^cuBLAS error$"):
        gpu.forward(*inputs()["forward"])


# --- inside the capture of a graph


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("mode", ["measured", "sparse"])
def test_what_was_not_seen_before_cannot_be_captured(
    mode: Any, capture: Callable[[], None]
) -> None:
    values = inputs()["forward"]
    other = arguments(normals(values[3], 4 * BATCH, torch.float32))["forward"]
    half = arguments(normals(values[3], BATCH, torch.float16))["forward"]
    with planner.use(mode):
        gpu.forward(*values)
        capture()
        gpu.forward(*values)
        # another pattern, another size of batch, another dtype
        with pytest.raises(RuntimeError, match=UNSEEN):
            gpu.forward(*inputs(seed=1)["forward"])
        with pytest.raises(RuntimeError, match=UNSEEN.replace("40", "160")):
            gpu.forward(*other)
        with pytest.raises(RuntimeError, match=UNSEEN.replace("float32", "float16")):
            gpu.forward(*half)
        with planner.use("dense"):
            gpu.forward(*other)


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("mode", ["measured", "dense"])
def test_what_a_capture_forbids_is_told(
    mode: Any, faults: Faults, capture: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("operation not permitted when stream is capturing")

    def fails(*_: object) -> None:
        raise error

    values = inputs()["forward"]
    with planner.use(mode):
        gpu.forward(*values)
        capture()
        faults.errors["triton a"] = error
        monkeypatch.setattr(reference, "dense_weight", fails)
        with pytest.raises(RuntimeError, match=UNSEEN) as raised:
            gpu.forward(*values)
    assert raised.value.__cause__ is error


@pytest.mark.usefixtures("calls")
def test_padding_that_is_not_there_cannot_be_captured(capture: Callable[[], None]) -> None:
    mask = np.zeros((64, 64), dtype=bool)
    mask[0], mask[1:, 0] = True, True
    pattern = from_mask(mask)
    assert pattern.compact
    values = arguments(normals(pattern, BATCH, torch.float32))["forward"]
    capture()
    with pytest.raises(RuntimeError, match=r"^Pattern\(.*\)" + REFUSED):
        gpu.forward(*values)

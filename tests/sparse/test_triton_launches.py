"""The small launches that a GPU's first minutes check; in Triton's interpreter without a GPU."""

from __future__ import annotations

import pytest
import torch

from dnc_sparse.backends import reference, triton
from dnc_sparse.bench import triton_launches

# Triton 3.6's interpreter converts arrays of one number
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPE = torch.bfloat16 if DEVICE.type == "cuda" else torch.float16


@pytest.fixture(scope="module")
def launches() -> list[triton_launches.Launch]:
    reason = triton.unavailable(DEVICE.type)
    if reason is not None:
        pytest.skip(f"triton: {reason}")
    return list(triton_launches.launches(DTYPE, DEVICE))


def test_every_kernel_at_every_block(launches: list[triton_launches.Launch]) -> None:
    kinds = {(one.pattern.block[0], one.tile.kernel) for one in launches}
    kernels = ("streamed", "resident", "separate", "fused")
    assert kinds == {(block, kernel) for block in (16, 32, 64) for kernel in kernels}


def test_launches_are_right(launches: list[triton_launches.Launch]) -> None:
    # the others take the interpreter 20 s
    for launch in launches if DEVICE.type == "cuda" else launches[-4:]:
        launch.check(DTYPE, DEVICE)


def test_says_which_launch_is_wrong(
    launches: list[triton_launches.Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    grad_input = reference.grad_input
    monkeypatch.setattr(reference, "grad_input", lambda *asked: grad_input(*asked) + 1)
    message = (
        r"^grad_input of 64x64: resident 32x64x256, 4 warps, 3 stages, 2 parts: "
        r"307200 of 307200 numbers differ from the oracle's; do not use this tile on c"
    )
    with pytest.raises(RuntimeError, match=message):
        launches[-3].check(DTYPE, DEVICE)

"""Race ways to the same result on a CUDA device, those that are right.

Each is run once and compared before it is timed, so compiling it and loading it are not timed. One
that fails or differs is left out with a warning, and the others go on.

| name    | meaning                                                                    |
|---------|----------------------------------------------------------------------------|
| trusted | the run by whose result the others are judged                              |
| sure    | how many runs, from the first on, are tried and timed however long it takes |
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dnc_sparse.backends.race import Run, race

# largest error of a right kernel, in parts of the largest number; a lost block of edges makes more.
# TF32 has 10 bits, and dense products may add up in halves
AGREEMENT = {torch.float32: 0.01, torch.float16: 0.02, torch.bfloat16: 0.05}
# seconds of timing after which only the sure runs are timed, and of compiling and comparing others
BUDGET_S = 0.2
TRIED_S = 2.0
# runs between two readings of the device's clock, unless one takes so long
TIMED_RUNS = 5
LONG_S = 1e-3


class DeviceLostError(RuntimeError):
    """Nothing more can run on a device in this process, after a kernel that broke it."""


# what is no fault of the run that raised it
PASSED_ON = (torch.OutOfMemoryError, DeviceLostError)


def race_on(
    device: torch.device, case: str, runs: Mapping[str, Run], trusted: str, sure: int
) -> dict[str, float]:
    """Return the seconds of each right run by name; those past the sure ones may lack.

    Raises what the trusted run raises, torch.OutOfMemoryError where comparing takes more memory
    than there is, and DeviceLostError.
    """
    # what fails here is the fault of earlier work
    synchronize(device)
    with torch.no_grad():
        try:
            return race(right(device, case, runs, trusted, sure), device_seconds, sure, BUDGET_S)
        except PASSED_ON:
            raise
        except Exception as error:
            raise_if_lost(device, "a timed method", case, error)
            raise


def right(
    device: torch.device, case: str, runs: Mapping[str, Run], trusted: str, sure: int
) -> Iterator[tuple[str, Run]]:
    """Yield, with their names, the runs whose results are the trusted one's but for rounding.

    Past the sure ones no further is tried once that has taken `TRIED_S`.
    """
    truth = tensors(runs[trusted]())
    spent = 0.0
    for place, (name, run) in enumerate(runs.items()):
        if spent > TRIED_S:
            return
        before = time.perf_counter()
        taken = name == trusted or _is_right(device, name, case, run, truth)
        if place >= sure:
            spent += time.perf_counter() - before
        if taken:
            yield name, run


def _is_right(
    device: torch.device, name: str, case: str, run: Run, truth: Sequence[Tensor]
) -> bool:
    try:
        equal = all(map(agrees, tensors(run()), truth))
    except PASSED_ON:
        raise
    except Exception as error:
        leave_out(device, name, case, error)
        return False
    if not equal:
        warnings.warn(
            f"{name} gives another result than dense arithmetic and is not used: {case}; please "
            f"report this",
            stacklevel=2,
        )
    return equal


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors of a function's value."""
    each = value if isinstance(value, tuple) else (value,)
    return [tensor for tensor in each if tensor is not None]


def agrees(result: Tensor, truth: Tensor) -> bool:
    """Whether two results are equal but for rounding, wherever the second is a finite number."""
    finite = truth.isfinite()
    if not bool(finite.any()):
        return True
    size = torch.where(finite, truth, 0).abs().amax()
    error = torch.where(finite, (result - truth).abs(), 0).amax()
    # not a number is no small error
    return bool(error <= AGREEMENT[result.dtype] * size)


def device_seconds(run: Run) -> float:
    """Return the seconds of one run, by the device's clock."""
    seconds = _timed(run, 1)
    return seconds if seconds > LONG_S else _timed(run, TIMED_RUNS)


def _timed(run: Run, times: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    # what the device does while the first of those that are timed is launched
    run()
    start.record()
    for _ in range(times):
        run()
    end.record()
    end.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1e3 / times


def leave_out(device: torch.device, name: str, case: str, error: Exception) -> None:
    """Warn that a run which raised an error is not used; raise DeviceLostError as below."""
    raise_if_lost(device, name, case, error)
    warnings.warn(
        f"{name} fails and is not used ({first_line(error)}): {case}; please report this",
        stacklevel=2,
    )


def raise_if_lost(device: torch.device, name: str, case: str, error: Exception) -> None:
    """Raise DeviceLostError from an error if the device answers no more after it."""
    if is_lost(device):
        raise DeviceLostError(
            f"{name} broke {device}, and nothing more can run there in this process "
            f"({first_line(error)}): {case}; start again with DNC_SPARSE_BACKEND=reference, and "
            f"please report this"
        ) from error


def is_lost(device: torch.device) -> bool:
    """Whether a device answers no more, after a kernel that broke it."""
    try:
        synchronize(device)
    except RuntimeError:
        return True
    return False


def first_line(error: Exception) -> str:
    """Return an error's kind and the first line of its text."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def synchronize(device: torch.device) -> None:
    """Wait for a CUDA device; raises RuntimeError for what broke on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""The Hopper block kernels' first minutes on a card: each apart, and none can stop the others.

    python bench/first_contact.py build/gpu/libdnc_watchdog.so     # right? who waits?
    python bench/first_contact.py build/gpu/libdnc_cuda.so --time  # full size: how fast?

Every kernel runs with each block, dtype and a few batches on small integers, so that results must
be equal to the last bit, 50 times over. Few multiprocessors make each block of threads take several
units. `--time` takes 4096 -> 4096 with 16,384 samples and compares with dense products. One JSON
line a case; `--device cpu` is for the emulator's library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from contact_kernels import FUNCTIONS, Junction, Library, Task
from gpu_children import Row, report
from gpu_clock import microseconds

Device = Literal["cuda", "cpu"]
BLOCKS = (128, 64)
# rows, columns, slots. Four multiprocessors keep the weights of 4 rows and stream those of others;
# backward does columns of degree 10 in several groups
SHAPES = {
    "4 rows": (4, 4, 2),
    "6 rows": (6, 6, 3),
    "degree 10": (10, 2, 2),
    "odd degree": (3, 3, 3),
}
BATCHES = {"4 rows": (300, 64, 1, 513)}
FEW_MULTIPROCESSORS, REPEATS = 4, 50
NEURONS, SAMPLES = 4096, 16384
# largest error, in parts of the largest number, of a product that is rounded to bfloat16 twice
AGREEMENT = 0.02


@dataclass(frozen=True)
class Case:
    """A kernel on a junction; the last one is small, or as large as what is promised for it."""

    function: str
    junction: Junction
    timed: bool = False


def exact_cases() -> dict[str, Case]:
    """Return the small cases by name."""
    return {
        f"{shape}, {function}, block {block}, {str(dtype)[6:]}, batch {batch}": Case(
            function, Junction(block, *SHAPES[shape], batch, dtype)
        )
        for block in BLOCKS
        for dtype in (torch.bfloat16, torch.float16)
        for shape in SHAPES
        for function in FUNCTIONS
        for batch in BATCHES.get(shape, (300,))
    }


def timed_cases(neurons: int = NEURONS, batch: int = SAMPLES) -> dict[str, Case]:
    """Return the large cases by name."""
    return {
        f"{function}, block {block}, 1/{n}": Case(
            function,
            Junction(
                block,
                *(neurons // block, neurons // block, max(1, neurons // block // n)),
                *(batch, torch.bfloat16),
            ),
            timed=True,
        )
        for n in (8, 16, 4, 2)
        for block in BLOCKS
        for function in FUNCTIONS
    }


def run(case: Case, library: Library, device: Device) -> Row:
    """Run a case: its verdict and, where it is timed, its microseconds and TFLOP/s."""
    whole = case.timed and device == "cuda"
    multiprocessors = library.multiprocessors() if whole else FEW_MULTIPROCESSORS
    task = Task(library, case.function, case.junction, device, multiprocessors)
    if not case.timed:
        return _exact(task, REPEATS if device == "cuda" else 1)
    _run(task)
    errors = {
        name: float((value.float() - other.float()).abs().max() / other.float().abs().max())
        for (name, value), other in zip(
            task.results().items(), task.expected(case.junction.dtype).values(), strict=True
        )
    }
    # a NaN is no agreement either
    verdict = "right" if all(error <= AGREEMENT for error in errors.values()) else "wrong"
    time_us = microseconds(task.run, device)
    j = case.junction
    products = 2 if case.function == "backward" else 1
    operations = 2 * products * j.batch * j.rows * j.slots * j.block**2
    return {
        "verdict": verdict,
        "errors": {name: float(f"{error:.2g}") for name, error in errors.items()},
        "function": case.function,
        "block": j.block,
        "inverse_density": j.columns // j.slots,
        "us": round(time_us, 1),
        "tflops": round(operations / time_us / 1e6, 1),
    }


def _exact(task: Task, repeats: int) -> Row:
    expected = task.expected(torch.float64)
    for repeat in range(repeats):
        for value in task.results().values():
            value.fill_(float("nan"))
        _run(task)
        for name, value in task.results().items():
            differs = value != expected[name]
            if bool(differs.any()):
                place = [int(i) for i in differs.nonzero()[0]]
                detail = (
                    f"{int(differs.sum())} of {differs.numel()} numbers of {name} in run {repeat}, "
                    f"the first at {place}"
                )
                return {"verdict": "wrong", "detail": detail}
    return {"verdict": "right"}


def _run(task: Task) -> None:
    """Run a task to its end. Raises RuntimeError with who waits when the watchdog gave up."""
    task.run()
    if task.x.is_cuda:
        torch.cuda.synchronize()
    stuck = task.library.stuck()
    if stuck is not None:
        raise RuntimeError(stuck)


def main(
    library: Annotated[Path, typer.Argument(help="What `bench/gpu_prepare.py` built.")],
    timed: Annotated[bool, typer.Option("--time", help="Full size, timed.")] = False,
    device: Device = "cuda",
    only: Annotated[str, typer.Option(help="Only cases whose name contains this.")] = "",
    limit_s: Annotated[float, typer.Option(help="Seconds that one case may take.")] = 12,
) -> None:
    """Run every case in a child of its own; exit 1 unless all are right."""
    toy = (512, 300) if device == "cpu" else (NEURONS, SAMPLES)
    every = timed_cases(*toy) if timed else exact_cases()
    cases = [name for name in every if only in name]

    def work(name: str) -> Row:
        return run(every[name], Library(library), device)

    raise typer.Exit(code=report(cases, work, limit_s))


if __name__ == "__main__":
    typer.run(main)

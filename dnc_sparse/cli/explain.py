"""`dnc-sparse explain`: by which method a junction is computed here, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from dnc_sparse.backends import measurements
from dnc_sparse.backends.explanation import explain as explain_junction
from dnc_sparse.bench import DTYPES
from dnc_sparse.cli import options
from dnc_sparse.extras import install_line
from dnc_sparse.patterns import nearest


def explain(
    n_in: Annotated[int, typer.Option("--n-in", min=1, help="Left neurons.")],
    n_out: Annotated[int, typer.Option("--n-out", min=1, help="Right neurons.")],
    density: Annotated[float, typer.Option(help="Edges / (n_in * n_out).")],
    batch: Annotated[int, typer.Option(min=0, help="Samples.")] = 256,
    block: options.BlockText = "auto",
    family: Annotated[
        str, typer.Option(help="auto, clash_free, cyclic, regular or random.")
    ] = "auto",
    dtype: Annotated[str, typer.Option(help=f"{', '.join(DTYPES)}.")] = "float32",
    threads: options.Threads = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    again: Annotated[
        bool, typer.Option("--again", help="Forget every measurement of this machine first.")
    ] = False,
) -> None:
    """Say by which method a junction is computed, with what was measured.

    Sparse kernels compute nearly everything; dense arithmetic takes over where it was measured to
    be faster, such as at high densities in bfloat16 on processors with matrix units.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; choose among {', '.join(DTYPES)}")
    console = options.console()
    if again:
        measurements.forget()
    pattern = nearest(n_in, n_out, density=density, family=family, block=options.block(block))
    text = str(explain_junction(pattern, batch, DTYPES[dtype], threads, device))
    console.print(text, highlight=False, soft_wrap=True)
    file = measurements.file()
    kept = f"measurements are kept in {file}"
    if file is None:
        kept = (
            f"measurements cannot be kept without pooch: every process measures anew; "
            f"{install_line('pooch')}"
        )
    elif not measurements.is_kept():
        kept = (
            f"measurements cannot be kept, as {file} cannot be written: every process measures "
            f"anew; make room or permission there, or set XDG_CACHE_HOME"
        )
    console.print(f"\n{kept}", highlight=False, soft_wrap=True)

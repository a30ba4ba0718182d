"""`dnc-sparse demo`: a small front on generated pictures, which needs no file and no network."""

from __future__ import annotations

from pathlib import Path

from dnc_sparse import machine
from dnc_sparse.cli import options
from dnc_sparse.cli.front import Out, show_front
from dnc_sparse.front.networks import Network, dense_networks
from dnc_sparse.front.runs import FrontTask

# few epochs, so that all is done in two minutes on two cores
TASK = FrontTask("glyphs", epochs=8, rates=(0.004, 0.008, 0.016), seeds=3)
DENSE_WIDTHS = (128, 256, 384)
SPARSE = ((512, 1 / 8), (1024, 1 / 16), (1024, 1 / 8))
BLOCK = 8

INTRODUCTION = """\
Which network would you rather train: a narrow dense one, or a wide one with an eighth of its
connections? {dense} dense and {sparse} sparse networks learn to read letters and digits that are
drawn on the spot. Each tries {rates} learning rates, then trains with its best one, {seeds} times.
"""
NEXT = """\
On your own work:
  dnc-sparse advise MODEL.py:build     which layers of your model would gain on this machine
  dnc-sparse front --data my.npz       this picture for your own data
  model = sparsify(model, density=1/8) in a script, before you build the optimiser"""


def demo(out: Out = Path("runs/demo")) -> None:
    """Train narrow dense and wide sparse networks, and draw which gives more for its time.

    About two minutes on two cores; nothing is downloaded.
    """
    sparse = [Network(width, 2, density, BLOCK) for width, density in SPARSE]
    networks = [*dense_networks(DENSE_WIDTHS, 2), *sparse]
    console = options.console()
    console.print(
        INTRODUCTION.format(
            dense=len(DENSE_WIDTHS), sparse=len(SPARSE), rates=len(TASK.rates), seeds=TASK.seeds
        ),
        highlight=False,
    )
    show_front(TASK, networks, out, machine.cores(), memory=False)
    console.print(f"\n{NEXT}", highlight=False)

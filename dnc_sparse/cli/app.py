"""The commands of `dnc-sparse` put together."""

from __future__ import annotations

from collections.abc import Sequence

from dnc_sparse.cli import shell
from dnc_sparse.cli.advise import advise
from dnc_sparse.cli.bench import bench
from dnc_sparse.cli.compare import compare
from dnc_sparse.cli.demo import demo
from dnc_sparse.cli.explain import explain
from dnc_sparse.cli.front import front
from dnc_sparse.cli.info import info
from dnc_sparse.cli.pattern import pattern
from dnc_sparse.cli.train import train

ABOUT = """Weight-sparse training for PyTorch: fix the connections, then train only those.

Start with `dnc-sparse demo`.
"""

app = shell.application(ABOUT, (demo, advise, front, train, compare, pattern, bench, explain, info))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; see `shell.run`."""
    shell.run(app, "dnc-sparse", arguments)

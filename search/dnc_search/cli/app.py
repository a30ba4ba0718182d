"""The commands of `dnc-search` put together."""

from __future__ import annotations

from collections.abc import Sequence

from dnc_search.cli.export import export
from dnc_search.cli.report import report
from dnc_search.cli.rescore import rescore
from dnc_search.cli.run import run
from dnc_search.cli.status import status
from dnc_search.cli.transfer import transfer
from dnc_search.cli.worker import worker
from dnc_sparse.cli import shell

ABOUT = """Find networks that are good and cheap to train.

Start with `dnc-search run --data fashion-mnist --space mlp --wc 0,0.1,10 --out runs/first`.
"""

app = shell.application(ABOUT, (run, worker, status, report, rescore, export, transfer))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; see `shell.run`."""
    shell.run(app, "dnc-search", arguments)

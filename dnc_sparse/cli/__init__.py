"""The `dnc-sparse` command: one file per command."""

from collections.abc import Sequence

from dnc_sparse import entry

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; see `entry.run`."""
    entry.run("dnc-sparse", "dnc_sparse.cli.app", arguments)

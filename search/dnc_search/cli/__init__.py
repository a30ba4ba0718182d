"""The `dnc-search` command: one file per command."""

from collections.abc import Sequence

from dnc_sparse import entry

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; see `entry.run`."""
    entry.run("dnc-search", "dnc_search.cli.app", arguments)

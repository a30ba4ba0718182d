"""The `dnc-hw` command: one file per command."""

from collections.abc import Sequence

from dnc_sparse import entry

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; see `entry.run`."""
    entry.run("dnc-hw", "dnc_hw.cli.app", arguments)

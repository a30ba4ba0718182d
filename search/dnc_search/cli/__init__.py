"""The `dnc-search` command: one file per command."""

from dnc_search.cli.app import main

__all__ = ["main"]

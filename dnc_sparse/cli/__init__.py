"""The `dnc-sparse` command: one file per command."""

from dnc_sparse.cli.app import main

__all__ = ["main"]

"""The `dnc-hw` command: one file per command."""

from dnc_hw.cli.app import main

__all__ = ["main"]

"""The commands of `dnc-hw` put together."""

from __future__ import annotations

from collections.abc import Sequence

from dnc_hw.cli.plan import plan
from dnc_hw.cli.resources import resources
from dnc_hw.cli.schedule import schedule
from dnc_hw.cli.simulate import simulate
from dnc_hw.cli.sweep import sweep
from dnc_hw.cli.trace import trace
from dnc_hw.cli.validate import validate
from dnc_sparse.cli import shell

ABOUT = """Study a machine that trains pre-defined sparse networks, exact to the clock and bit.

A machine is the name of a published configuration, such as `mnist-12bit`, or the path of a TOML
file. Start with `dnc-hw resources mnist-12bit`.
"""

app = shell.application(ABOUT, (simulate, sweep, plan, schedule, trace, resources, validate))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; see `shell.run`."""
    shell.run(app, "dnc-hw", arguments)

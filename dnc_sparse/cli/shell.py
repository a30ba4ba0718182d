"""What our command lines share: how commands are put together, and how errors are shown."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any

import typer
from rich.console import Console

from dnc_sparse import __version__

# what our functions raise for a wrong argument, file or machine; anything else is a bug
EXPECTED = (ValueError, TypeError, RuntimeError, OSError, ImportError, MemoryError)
TRACEBACK = "--traceback"


class Stopped(Exception):
    """Ctrl-C during a command; typer would end the process without a word."""


def application(about: str, commands: Sequence[Callable[..., None]]) -> typer.Typer:
    """Put commands together, with `--version` and `--traceback`."""
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in commands:
        app.command()(_stoppable(command))

    app.callback(help=about)(_common)
    return app


def run(app: typer.Typer, name: str, arguments: Sequence[str] | None) -> None:
    """Run a command line and exit: 0 done, 2 with one red line for an error, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with _plain_warnings():
        try:
            app(given, prog_name=name)
        except Stopped as stopped:
            complain(str(stopped), "yellow")
            sys.exit(130)
        except EXPECTED as error:
            if TRACEBACK in given:
                raise
            notes = getattr(error, "__notes__", [])
            # Python's own MemoryError has no text
            text = str(error) or "not enough memory"
            complain(f"error: {' '.join(' '.join([text, *notes]).split())}", "red")
            sys.exit(2)


def _show_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        Console(markup=False).print(f"{context.info_name} {__version__}", highlight=False)
        raise typer.Exit


def _common(
    traceback: Annotated[
        bool, typer.Option(TRACEBACK, help="Show where in the code an error arose.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def _stoppable(command: Callable[..., None]) -> Callable[..., None]:
    @wraps(command)
    def run_command(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt as interrupt:
            raise Stopped(str(interrupt) or "interrupted") from interrupt

    return run_command


def complain(text: str, style: str) -> None:
    """Write a line to standard error, in a colour where there are colours."""
    console = Console(stderr=True, markup=False)
    console.print(text, style=style, highlight=False, soft_wrap=True)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show warnings as one line, without the place in our code they come from."""

    def show(message: Warning | str, *place: object, **more: object) -> None:
        complain(f"warning: {message}", "yellow")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield

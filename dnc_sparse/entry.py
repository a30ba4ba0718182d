"""How a program starts: its commands are imported late, so that a missing library is one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from dnc_sparse import __version__
from dnc_sparse.extras import install_line
from dnc_sparse.starting import ctrl_c_ends

OURS = ("dnc_sparse", "dnc_search", "dnc_hw")


def run(program: str, commands: str, arguments: Sequence[str] | None) -> None:
    """Import the module of a program's commands, call its `main` and exit.

    Where the import fails, standard error says in one line what is missing and how to install it,
    and the exit code is 2; `--version` is answered all the same. `--traceback` raises ImportError.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with ctrl_c_ends():
            main = import_module(commands).main
    except ImportError as error:
        if "--version" in given:
            sys.stdout.write(f"{program} {__version__}\n")
            sys.exit(0)
        if "--traceback" in given:
            raise
        sys.stderr.write(f"error: {_reason(program, error)}\n")
        sys.exit(2)
    main(arguments)


def _reason(program: str, error: ImportError) -> str:
    library = (error.name or "").partition(".")[0]
    # a library that is there but broken says more by itself
    if not isinstance(error, ModuleNotFoundError) or library in (*OURS, ""):
        return f"{program} cannot start: {' '.join(str(error).split())}"
    return f"{program} needs {library}: {install_line(library)}"

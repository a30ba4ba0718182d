"""Ctrl-C while a program of ours starts: the end, in one line.

Importing torch and what stands on it takes seconds. A KeyboardInterrupt there would end as a page
of other libraries' code, or be taken by them for a failed import. In any other program nothing
is changed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import parent_process
from pathlib import Path
from typing import NoReturn

PROGRAMS = ("dnc-sparse", "dnc-search", "dnc-hw")
# the same by `python -m`
MODULES = ("dnc_sparse", "dnc_search", "dnc_hw")
_PYTHONS = signal.default_int_handler


@contextmanager
def ctrl_c_ends() -> Iterator[None]:
    """Let Ctrl-C end the process with code 130 while our program imports, if it is ours."""
    changeable = threading.current_thread() is threading.main_thread()
    # who ignores Ctrl-C, or handles it, is left alone
    if not (changeable and _is_ours() and signal.getsignal(signal.SIGINT) == _PYTHONS):
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _PYTHONS)


def _is_ours() -> bool:
    """Tell whether this process was started as a program of ours, or by one."""
    if Path(sys.argv[0] if sys.argv else "").stem in PROGRAMS:
        return True
    # while `python -m` looks for its module, sys.argv does not name it yet
    return any(flag == "-m" and name in MODULES for flag, name in pairwise(sys.orig_argv))


def _end(number: int, frame: object) -> NoReturn:
    # the processes that a program starts get the signal too; one line is enough
    if parent_process() is None:
        os.write(2, b"interrupted\n")
    # nothing was begun, and an exception could be swallowed by what is being imported
    os._exit(130)

"""Work in a child process that is replaced when it dies, hangs or cannot be trusted any more.

One child takes case after case, because a CUDA context takes seconds to make. What ends it ends one
case only: a signal, an exception (after a fault of the device nothing of a process is right), or
more time than a case may take.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

Row = dict[str, Any]
Work = Callable[[str], Row]
# to make a context, besides the first case
START_S = 15.0
# between a kill and the end, which a driver may put off
END_S = 10.0
# forked, so that torch is imported once; the parent must not touch the device
_context = get_context("fork")


def in_children(cases: Sequence[str], work: Work, limit_s: float) -> Iterator[Row]:
    """Yield a row for each case: what `work` says, with "verdict", or how the child ended.

    A verdict other than "right" and "wrong" ends a child. Raises RuntimeError for a child that
    cannot be killed, after its row.
    """
    left = list(cases)
    while left:
        receiver, sender = _context.Pipe(duplex=False)
        child = _context.Process(target=_serve, args=(tuple(left), work, sender), daemon=True)
        child.start()
        # else the end of the child would not be seen
        sender.close()
        limit = START_S + limit_s
        for case in tuple(left):
            row = _next(receiver, limit)
            if row is None:
                child.kill()
                row = {"verdict": "hangs", "detail": f"no answer in {limit:.0f} s"}
            elif not row:
                child.join(END_S)
                row = {"verdict": "died", "detail": ending(child.exitcode)}
            left.remove(case)
            yield {"case": case} | row
            if row["verdict"] not in ("right", "wrong"):
                break
            limit = limit_s
        child.join(END_S)
        if child.is_alive():
            raise RuntimeError(f"process {child.pid} cannot be killed: the device is lost")


def report(cases: Sequence[str], work: Work, limit_s: float) -> int:
    """Print a JSON line for each case and how many are right; return 0 if all, and any, are."""
    right = 0
    for row in in_children(cases, work, limit_s):
        right += row["verdict"] == "right"
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
    sys.stdout.write(f"{right} of {len(cases)} cases right\n")
    return int(right != len(cases) or not cases)


def ending(code: int | None) -> str:
    """Return an exit code in words."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _next(receiver: Connection, limit_s: float) -> Row | None:
    """Return the next row; an empty one when the child has ended, None when it says nothing."""
    if not receiver.poll(limit_s):
        return None
    try:
        row: Row = receiver.recv()
    except EOFError:
        return {}
    return row


def _serve(cases: Sequence[str], work: Work, sender: Connection) -> None:
    # a fork has none of the threads that the parent's OpenMP would wait for
    torch.set_num_threads(1)
    for case in cases:
        began = time.perf_counter()
        try:
            row = work(case)
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            row = {"verdict": "raised", "detail": text}
        sender.send(row | {"seconds": round(time.perf_counter() - began, 2)})
        if row["verdict"] not in ("right", "wrong"):
            return

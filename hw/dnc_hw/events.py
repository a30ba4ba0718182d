"""What happens at the memory ports, clock by clock.

An event is one access of all memories of a bank that a unit uses in that clock. It says which step
of the junction's issue the access serves; the step names the edges, and `EdgeOrder` the words.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnc_hw.fixed_point import Ints


class MemoryKind(IntEnum):
    """What a memory holds."""

    weight = 0
    bias = 1
    activation = 2
    slope = 3
    delta = 4


class Access(IntEnum):
    """What an access is for; feed-forward and update read the same memories in different banks."""

    load = 0
    forward_read = 1
    update_read = 2
    accumulate_read = 3
    write = 4
    accumulate_write = 5
    clear = 6


class Event(NamedTuple):
    """One access of a bank of memories.

    `place` is the junction of weights and biases and the layer of all else, `step` the number of
    the step in the issue of the junction that accesses (the clock's group of words for a load).
    """

    cycle: int
    clock: int
    memory: int
    place: int
    bank: int
    access: int
    step: int


class Logged(NamedTuple):
    """An event with the lanes accessed and the word at which each was: [lanes]."""

    event: Event
    lane: Ints
    word: Ints


def as_table(events: list[Event]) -> NDArray[np.int32]:
    """Return events as a table in a fixed order: [events, fields of Event]."""
    table = np.array(events, dtype=np.int32).reshape(-1, len(Event._fields))
    return table[np.lexsort(table.T[::-1])]

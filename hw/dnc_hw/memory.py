"""Banked on-chip memory with ports.

| name  | meaning                                      | shape                  |
|-------|----------------------------------------------|------------------------|
| bank  | a copy of the whole set, in a rotation       |                        |
| lane  | one RAM of a bank; all work side by side     |                        |
| words | contents                                     | [banks, lanes, depth]  |

A port of a bank serves one access per clock, at one word in each of its lanes. Reads return what
was stored before the clock's writes: the model does all reads of a clock first.
"""

from __future__ import annotations

import numpy as np

from dnc_hw.events import Access, Event, Logged, MemoryKind
from dnc_hw.fixed_point import Ints


class Memory:
    """One item of the machine's storage, zero at start."""

    def __init__(
        self, kind: MemoryKind, place: int, *, banks: int, lanes: int, depth_words: int, ports: int
    ) -> None:
        self.kind = kind
        self.place = place
        self.ports = ports
        self.words: Ints = np.zeros((banks, lanes, depth_words), dtype=np.int64)
        self._clock = (-1, -1)
        self._uses: dict[int, int] = {}
        self.log: list[Logged] | None = None
        self.accessed_words = 0

    def read(
        self, when: tuple[int, int], access: Access, bank: int, lane: Ints, word: Ints, step: int
    ) -> Ints:
        """Return a word of each lane."""
        self._use_port(when, access, bank, lane, word, step)
        read: Ints = self.words[bank, lane, word]
        return read

    def write(
        self,
        when: tuple[int, int],
        access: Access,
        bank: int,
        lane: Ints,
        word: Ints,
        values: Ints | int,
        step: int,
    ) -> None:
        """Store a word into each lane."""
        self._use_port(when, access, bank, lane, word, step)
        self.words[bank, lane, word] = values

    def _use_port(
        self, when: tuple[int, int], access: Access, bank: int, lane: Ints, word: Ints, step: int
    ) -> None:
        if when != self._clock:
            self._clock = when
            self._uses.clear()
        uses = self._uses[bank] = self._uses.get(bank, 0) + 1
        assert uses <= self.ports, f"{self.kind.name} {self.place}, bank {bank}: no free port"
        self.accessed_words += len(lane)
        if self.log is not None:
            event = Event(*when, self.kind, self.place, bank, access, step)
            self.log.append(Logged(event, lane, word))

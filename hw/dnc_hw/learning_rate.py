"""Learning rates as the machine holds them: codes that change at given inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnc_hw.fixed_point import FixedPoint, Ints


@dataclass(frozen=True)
class LearningRate:
    """Learning-rate codes by input: `codes[n]` holds from input `change_at[n]` on.

    Code c stands for eta = 2^-(c - 1), 0 for no update. Raises ValueError unless the two have the
    same length and the inputs rise from 0.
    """

    codes: tuple[int, ...] = (4,)
    change_at: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if len(self.codes) != len(self.change_at) or not self.codes:
            raise ValueError(
                f"{len(self.codes)} learning-rate codes for {len(self.change_at)} inputs at which "
                f"they change; give one input per code, the first 0"
            )
        if self.change_at[0] != 0 or (np.diff(self.change_at) <= 0).any():
            raise ValueError(
                f"learning rates must change at inputs that rise from 0, got {self.change_at}"
            )

    def check(self, number: FixedPoint) -> None:
        """Raise ValueError for a code that the format does not have."""
        for code in self.codes:
            number.check_code(code)

    def for_inputs(self, first: int, count: int) -> Ints:
        """Return the code of each of `count` inputs from number `first` on: [count]."""
        inputs = np.arange(first, first + count)
        piece = np.searchsorted(np.asarray(self.change_at), inputs, side="right") - 1
        return np.asarray(self.codes, dtype=np.int64)[piece]


# the published test bench: 2^-3, then 2^-4 after 25,000 inputs, 2^-5 after 75,000
PUBLISHED_RATE = LearningRate((4, 5, 6), (0, 25_000, 75_000))

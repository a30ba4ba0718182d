import enum
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]

def instruction_sets() -> list[str]: ...

class Policy(enum.Enum):
    stall = ...
    forward = ...
    emulate = ...

class Junction:
    def __init__(
        self,
        n_in: int,
        n_out: int,
        lanes: int,
        interleaved: bool,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
    ) -> None: ...

class ActivationTable:
    def __init__(self, values: Words, slopes: Words, half_span: int) -> None: ...

class Machine:
    def __init__(
        self,
        *,
        junctions: Sequence[Junction],
        tables: Sequence[ActivationTable],
        integer_bits: int,
        fraction_bits: int,
        rounds_after_clip: bool,
        pipeline: int,
        policy: Policy,
        winner_skips_last_clock: bool,
    ) -> None: ...

class Issue:
    @property
    def clocks(self) -> int: ...
    @property
    def clash_stalls(self) -> int: ...
    @property
    def hazard_stalls(self) -> int: ...
    @property
    def steps(self) -> list[tuple[int, list[int]]]: ...
    @property
    def clashes(self) -> list[tuple[int, int, int]]: ...
    @property
    def hazards(self) -> list[tuple[int, int, int, int, int]]: ...

class Engine:
    def __init__(
        self,
        machine: Machine,
        weights: Sequence[Words],
        biases: Sequence[Words],
        instruction_set: str,
    ) -> None: ...
    def run(
        self,
        pixels: NDArray[np.uint8],
        labels: Words,
        codes: Words,
        record: tuple[Sequence[Words], Sequence[Words], Sequence[Words], Words] | None,
    ) -> Words: ...
    def weights(self, junction: int) -> list[int]: ...
    def biases(self, junction: int) -> list[int]: ...
    @property
    def issues(self) -> list[Issue]: ...
    @property
    def cycle_clocks(self) -> int: ...
    @property
    def saturation(self) -> list[tuple[int, int, int, int]]: ...
    def events(self, cycle: int) -> NDArray[np.int32]: ...

"""How the learning rate runs through a training run, step by step.

| name   | meaning                                                       | shape  |
|--------|---------------------------------------------------------------|--------|
| step   | optimiser steps done before this one, over all epochs         | scalar |
| steps  | optimiser steps of the whole run                              | scalar |
| factor | what the configured learning rate is multiplied by, in (0, 1] | scalar |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

ScheduleName = Literal["constant", "step", "cosine"]

# the rate falls to a fifth at half and again at three quarters of the run
DROP, DROPS_AT = 0.2, (0.5, 0.75)
# the share of the run over which the cosine schedule rises to the full rate
WARM_UP = 0.05


def constant(step: int, steps: int) -> float:
    """Return 1: the rate stays."""
    return 1.0


def step_down(step: int, steps: int) -> float:
    """Return the factor of Deep-n-Cheap's schedule (Dey et al. 2020, arXiv 2004.00974)."""
    return DROP ** sum(step >= share * steps for share in DROPS_AT)


def cosine(step: int, steps: int) -> float:
    """Return a short linear rise, then half a cosine down (Loshchilov, Hutter 2017, arXiv
    1608.03983, without restarts).
    """
    rising = int(WARM_UP * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


SCHEDULES: Mapping[ScheduleName, Callable[[int, int], float]] = {
    "constant": constant,
    "step": step_down,
    "cosine": cosine,
}

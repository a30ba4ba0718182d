"""Which input every unit works on in which junction cycle, and in which bank it finds it.

| name  | meaning                                                          |
|-------|------------------------------------------------------------------|
| t     | junction cycle; input n is loaded in cycle n                     |
| i, L  | junction 1..L; layer i lies to its right                         |
| FF_i  | feed-forward of junction i; the last makes the output delta too  |
| BP_i  | back-propagation, i >= 2; makes the deltas of layer i - 1        |
| UP_i  | update of weights and biases; in the cycle of BP_i               |
| banks | copies of a memory that rotate, so that each has one use a cycle |

Input n is fed forward through junction i in cycle n + i, and updates it in n + 2L + 1 - i. A layer
i < L keeps its activations for the cycles between, in 2(L - i) + 1 banks.
"""

from __future__ import annotations

from typing import NamedTuple

DELTA_BANKS = 2


class Task(NamedTuple):
    """A unit's work in a junction cycle: operation, junction and the input it works on."""

    operation: str
    junction: int
    input: int


def forward_delay(junction: int) -> int:
    """Return the cycles between loading an input and feeding it through a junction."""
    return junction


def update_delay(junctions: int, junction: int) -> int:
    """Return the cycles between loading an input and updating a junction with it."""
    return 2 * junctions + 1 - junction


def staleness(junctions: int, junction: int) -> int:
    """Return how many of the inputs before it are not in the weights that an input meets."""
    return 2 * (junctions - junction) + 1


def activation_banks(junctions: int, layer: int) -> int:
    """Return the banks of a layer's activations (and slopes), layer 0 the inputs."""
    return 2 * (junctions - layer) + 1


def forward_bank(cycle: int, banks: int) -> int:
    """Return the activation bank that feed-forward reads."""
    return cycle % banks


def write_bank(cycle: int, banks: int) -> int:
    """Return the activation bank that is written."""
    return (cycle + 1) % banks


def update_bank(cycle: int, banks: int) -> int:
    """Return the activation bank that update (and, for slopes, back-propagation) reads."""
    return (cycle + 2) % banks


def delta_write_bank(cycle: int) -> int:
    """Return the delta bank that is filled; the other one is used, and cleared."""
    return cycle % DELTA_BANKS


def tasks(junctions: int, cycle: int) -> list[Task]:
    """List what all units do in a cycle; before input 0 they work on what memories hold at start.

    Inputs below 0 are left out.
    """
    found = [Task("load", 0, cycle)]
    for i in range(1, junctions + 1):
        found.append(Task("FF", i, cycle - forward_delay(i)))
    for i in range(1, junctions + 1):
        n = cycle - update_delay(junctions, i)
        found += [Task("BP", i, n)] if i > 1 else []
        found.append(Task("UP", i, n))
    return [task for task in found if task.input >= 0]


def inference_latency_cycles(junctions: int) -> int:
    """Return the cycles from loading an input to its output, the loading included."""
    return junctions + 1


def training_latency_cycles(junctions: int) -> int:
    """Return the cycles from loading an input to its last update, both included."""
    return 2 * junctions + 1

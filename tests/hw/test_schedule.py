"""The schedule over junction cycles: by formula for any depth, and by the model's own accesses."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from dnc_hw import schedule
from dnc_hw.events import Access, Event, MemoryKind, as_table
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.machine import Machine
from dnc_hw.model import Model
from dnc_hw.parameters import initial_parameters
from dnc_hw.schedule import Task


def deep_machine(junctions: int) -> Machine:
    sizes = ([16] * (junctions + 1), [2] * junctions, [8] * junctions)
    return Machine.from_sizes(*sizes, FixedPoint(2, 7), hazards="reject")


def test_two_junctions_as_published() -> None:
    # input n: FF1 n+1, FF2 n+2, BP2 and UP2 n+3, UP1 n+4
    assert schedule.tasks(2, 5) == [
        Task("load", 0, 5),
        Task("FF", 1, 4),
        Task("FF", 2, 3),
        Task("UP", 1, 1),
        Task("BP", 2, 2),
        Task("UP", 2, 2),
    ]
    assert schedule.tasks(2, 1) == [Task("load", 0, 1), Task("FF", 1, 0)]
    # five banks of inputs, three of hidden activations; pointers start at 0, 1 and 2
    assert [schedule.activation_banks(2, layer) for layer in (0, 1)] == [5, 3]
    pointers = schedule.forward_bank, schedule.write_bank, schedule.update_bank
    assert [[p(t, 3) for t in range(4)] for p in pointers] == [
        [0, 1, 2, 0],
        [1, 2, 0, 1],
        [2, 0, 1, 2],
    ]


@pytest.mark.parametrize("junctions", [1, 2, 3, 4, 5])
def test_all_units_are_busy_and_staleness_follows(junctions: int) -> None:
    tasks = schedule.tasks(junctions, 100)
    assert len(tasks) == 1 + 3 * junctions - 1
    done = {(task.operation, task.junction): task.input for task in tasks}
    for i in range(1, junctions + 1):
        # before cycle t, junction i was updated by inputs up to that of UP_i minus 1
        newest_in_weights = done["UP", i] - 1
        missed = done["FF", i] - newest_in_weights - 1
        assert missed == schedule.staleness(junctions, i) == 2 * (junctions - i) + 1
        if i > 1:
            assert done["BP", i] == done["UP", i]
    assert schedule.training_latency_cycles(junctions) == 2 * junctions + 1


@pytest.mark.parametrize("junctions", [1, 2, 3, 4, 5])
def test_the_model_follows_the_schedule(junctions: int) -> None:
    """Follow each input through the banks that the model's accesses name."""
    machine = deep_machine(junctions)
    model = Model(machine, initial_parameters(machine), log_events=True)
    cycles = 4 * junctions + 4
    zeros = np.zeros(cycles, dtype=np.int64)
    model.run(np.zeros((cycles, machine.n_in), dtype=np.uint8), zeros, zeros)
    by_cycle: dict[int, set[tuple[int, int, int, int]]] = defaultdict(set)
    for event in model.events:
        by_cycle[event.cycle].add((event.memory, event.place, event.bank, event.access))
    held: dict[tuple[int, int, int], int] = {}
    for cycle in range(cycles):
        accesses = by_cycle[cycle]
        expected = {(t.operation, t.junction): t.input for t in schedule.tasks(junctions, cycle)}
        for i in range(1, junctions + 1):
            for memory, operation, access, place in (
                (MemoryKind.activation, "FF", Access.forward_read, i - 1),
                (MemoryKind.activation, "UP", Access.update_read, i - 1),
                (MemoryKind.slope, "BP", Access.update_read, i - 1),
                (MemoryKind.delta, "UP", Access.update_read, i),
            ):
                if (operation, i) not in expected:
                    continue
                banks = {b for m, p, b, a in accesses if (m, p, a) == (memory, place, access)}
                assert len(banks) == 1
                assert held[memory, place, banks.pop()] == expected[operation, i]
        for memory, place, bank, access in accesses:
            if access in (Access.load, Access.write, Access.accumulate_write):
                inputs = {
                    MemoryKind.activation: cycle - place,
                    MemoryKind.slope: cycle - place,
                    # made by the last feed-forward, or by back-propagation of junction place + 1
                    MemoryKind.delta: cycle - (2 * junctions - place),
                }
                if memory in inputs:
                    held[memory, place, bank] = inputs[MemoryKind(memory)]


def test_clocks_of_accesses() -> None:
    """Row k is read at k, written at k + 1 + P; activations leave at k + 2 + P."""
    depth = 3
    machine = Machine.from_sizes(
        (16, 16, 16), (2, 2), (4, 4), FixedPoint(2, 7), pipeline_clocks=depth, hazards="forward"
    )
    model = Model(machine, initial_parameters(machine), log_events=True)
    zeros = np.zeros(1, dtype=np.int64)
    model.run(np.zeros((1, machine.n_in), dtype=np.uint8), zeros, zeros)
    late = {
        Access.forward_read: 0,
        Access.update_read: 0,
        Access.accumulate_read: 0,
        Access.accumulate_write: 1 + depth,
        Access.clear: 1 + depth,
        Access.load: 0,
    }
    for event in model.events:
        expected = late.get(Access(event.access))
        if expected is None:
            own = event.memory in (MemoryKind.weight, MemoryKind.bias)
            expected = 1 + depth if own else 2 + depth
        assert event.clock - event.step == expected
    last = max(event.clock for event in model.events)
    assert last == machine.cycle_clocks - 1


def test_events_have_a_fixed_order() -> None:
    events = [Event(0, 2, 1, 0, 0, 0, 0), Event(0, 1, 3, 0, 0, 0, 0), Event(0, 1, 2, 9, 0, 0, 0)]
    assert as_table(events)[:, 1:3].tolist() == [[1, 2], [1, 3], [2, 1]]
    assert as_table([]).shape == (0, 7)

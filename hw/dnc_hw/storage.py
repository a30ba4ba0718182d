"""How much the machine stores: words and bits of every memory.

| item       | copies (banks)  | memories     | depth    | width      |
|------------|-----------------|--------------|----------|------------|
| weights i  | 1               | lanes_i      | C_i      | word       |
| biases i   | 1               | r_i          | C_i      | word       |
| inputs     | 2L + 1          | lanes_1      | D_1      | 8 bits     |
| a_i, i < L | 2(L - i) + 1    | lanes_{i+1}  | D_{i+1}  | word       |
| slopes_i   | 2(L - i) + 1    | lanes_{i+1}  | D_{i+1}  | word       |
| deltas_i   | 2               | lanes_{i+1}  | D_{i+1}  | word       |
| deltas_L   | 2               | r_L          | C_L      | word       |

r_i is the most right neurons that a clock completes. Labels travel in a shift register of r_L bits
and T L + P clocks, which is no memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnc_hw import schedule
from dnc_hw.fixed_point import PIXEL_BITS
from dnc_hw.machine import Machine


@dataclass(frozen=True)
class StoredItem:
    """One item of storage; `place` is the junction of weights and biases, else the layer."""

    name: str
    place: int
    banks: int
    memories: int
    depth_words: int
    width_bits: int

    @property
    def words(self) -> int:
        """Words in all banks."""
        return self.banks * self.memories * self.depth_words

    @property
    def bits(self) -> int:
        """Bits in all banks."""
        return self.words * self.width_bits


def stored_items(machine: Machine) -> list[StoredItem]:
    """List what the machine stores, memories padded to whole rows."""
    last, width = machine.junctions, machine.number.width_bits
    items = []
    for i, order in enumerate(machine.orders, 1):
        at_once = machine.issues[i - 1].completed_per_clock
        items.append(StoredItem("weights", i, 1, order.lanes, order.rows, width))
        items.append(StoredItem("biases", i, 1, at_once, -(-order.n_out // at_once), width))
    for layer, order in enumerate(machine.orders):
        shape = (order.lanes, order.depth_words)
        banks = schedule.activation_banks(last, layer)
        if layer == 0:
            items.append(StoredItem("inputs", layer, banks, *shape, PIXEL_BITS))
            continue
        items.append(StoredItem("activations", layer, banks, *shape, width))
        items.append(StoredItem("slopes", layer, banks, *shape, width))
        items.append(StoredItem("deltas", layer, schedule.DELTA_BANKS, *shape, width))
    at_once = machine.issues[-1].completed_per_clock
    depth = -(-machine.n_out // at_once)
    items.append(StoredItem("deltas", last, schedule.DELTA_BANKS, at_once, depth, width))
    return items


def total_words(machine: Machine) -> int:
    """Return the words of all memories."""
    return sum(item.words for item in stored_items(machine))


def total_bits(machine: Machine) -> int:
    """Return the bits of all memories."""
    return sum(item.bits for item in stored_items(machine))

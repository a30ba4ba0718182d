"""What the machine takes of an FPGA, by formulas fitted to published utilisation reports.

| resource | formula                                                                              |
|----------|--------------------------------------------------------------------------------------|
| DSP      | lanes of all junctions (feed-forward) + 2 lanes from junction 2 on (back-propagation) |
| BRAM36   | 1 per lane from junction 2 on (two hidden delta memories of half a block each),       |
|          | the activation tables, and the published test bench's label memory                    |
| LUTRAM   | a LUT per bit of inputs, activations (F bits) and slopes (F - 2); 4 LUT per 6 bits of |
|          | weights and biases                                                                    |
| LUT      | estimate: unit costs of a synthesis, and the multipliers of the update                |

DSP is exact for the reports with DSP, BRAM36 within 0.5, LUTRAM within 5 % for 10 and 16 bits and
within 18 % for 8. LUT meets the four reported figures within 25 %: it is an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from dnc_hw import schedule
from dnc_hw.activation import SigmoidTable
from dnc_hw.devices import Device
from dnc_hw.fixed_point import PIXEL_BITS
from dnc_hw.machine import Machine

RAMB18_BITS = 18_432
# reported as 4 or 4.5 blocks for the 12,544 labels of the test bench
LABEL_BRAM36 = 4.25
# RAM32M: 4 LUT hold 32 words of 6 bits; RAM64M: 64 words of 3 bits
RAM32M_BITS, RAM64M_BITS, RAM_LUT = 6, 3, 4
RAM32_WORDS, RAM64_WORDS = 32, 64
# smaller ones were built of flip-flops
FLIP_FLOP_WORDS = 4
# LUT for rounding and clipping after a multiplier, by width; between them by straight lines
ROUND_CLIP_LUT = {8: 7, 10: 9, 12: 22, 16: 30}
# LUT of a multiplier without DSP, per bit squared: fitted to the four reports
MULTIPLIER_LUT_PER_BIT2 = 1.1


@dataclass(frozen=True)
class Resources:
    """What a machine takes; `lut_estimate` includes `lutram` and is an estimate."""

    dsp: int
    bram36: float
    lutram: int
    lut_estimate: int

    def shortage(self, device: Device) -> dict[str, float]:
        """Return by how much each resource exceeds the device, empty where it fits."""
        needs = {
            "dsp": (self.dsp, device.dsp),
            "bram36": (self.bram36, device.bram36),
            "lutram": (self.lutram, device.lutram),
            "lut_estimate": (self.lut_estimate, device.lut),
        }
        return {name: need - has for name, (need, has) in needs.items() if need > has}


def resources_of(machine: Machine, *, label_memory: bool = True) -> Resources:
    """Return the resources of a machine, with the label memory of the published test bench."""
    lutram = _lutram(machine)
    return Resources(
        dsp=sum(machine.lanes) + 2 * sum(machine.lanes[1:]),
        bram36=_bram36(machine) + (LABEL_BRAM36 if label_memory else 0),
        lutram=lutram,
        lut_estimate=lutram + _logic_lut(machine),
    )


def _bram36(machine: Machine) -> float:
    width, halves = machine.number.width_bits, 0
    for i, order in enumerate(machine.orders):
        if i > 0:
            delta_bits = order.depth_words * width
            halves += schedule.DELTA_BANKS * order.lanes * ceil(delta_bits / RAMB18_BITS)
        table = machine.activation(i)
        if isinstance(table, SigmoidTable):
            entry_bits = 2 * machine.number.fraction_bits - 2
            table_halves = ceil(len(table.values) * entry_bits / RAMB18_BITS)
            halves += machine.issues[i].completed_per_clock * table_halves
        if order.rows > RAM64_WORDS:
            memories = order.lanes + machine.issues[i].completed_per_clock
            halves += memories * ceil(order.rows * width / RAMB18_BITS)
    return halves / 2


def _lutram(machine: Machine) -> int:
    number, total = machine.number, 0
    for i, order in enumerate(machine.orders):
        bits = PIXEL_BITS if i == 0 else 2 * number.fraction_bits - 2
        memories = schedule.activation_banks(machine.junctions, i) * order.lanes
        # a LUT holds 64 words of one bit behind a single port
        total += memories * bits * ceil(order.depth_words / RAM64_WORDS)
        if FLIP_FLOP_WORDS < order.rows <= RAM64_WORDS:
            unit = RAM32M_BITS if order.rows <= RAM32_WORDS else RAM64M_BITS
            memories = order.lanes + machine.issues[i].completed_per_clock
            total += memories * ceil(number.width_bits / unit) * RAM_LUT
    return total


def _logic_lut(machine: Machine) -> int:
    """Estimate the LUTs of arithmetic and bank selection."""
    width, fraction = machine.number.width_bits, machine.number.fraction_bits
    lut = 0.0
    for i, order in enumerate(machine.orders):
        lanes, banks = order.lanes, schedule.activation_banks(machine.junctions, i)
        tree_bits = width + (order.pattern.fan_in - 1).bit_length()
        # feed-forward, two for back-propagation, update
        multipliers = 2 if i == 0 else 4
        lut += multipliers * lanes * round_clip_lut(width)
        lut += lanes * MULTIPLIER_LUT_PER_BIT2 * width**2
        adders = tree_bits + width if i == 0 else tree_bits + 2 * width
        lut += lanes * adders + machine.issues[i].completed_per_clock * (width + tree_bits)
        # a LUT selects one of four banks for one bit
        selector = ceil((banks - 1) / 3)
        selected_bits = 2 * PIXEL_BITS if i == 0 else 3 * fraction - 2
        lut += lanes * selected_bits * selector
    return round(lut)


def round_clip_lut(width_bits: int) -> float:
    """Return the LUTs that round and clip a product, interpolated between synthesised widths."""
    known = sorted(ROUND_CLIP_LUT.items())
    for (low, at_low), (high, at_high) in pairwise(known):
        if width_bits <= high:
            return max(at_low + (at_high - at_low) * (width_bits - low) / (high - low), 0.0)
    return known[-1][1] * width_bits / known[-1][0]

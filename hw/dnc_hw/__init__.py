"""Cycle-level, bit-exact model of a machine that trains pre-defined sparse networks.

A `Machine` describes it; `simulate` runs data through it; `Model` is the readable simulator and
`Engine` the fast one; `validate` holds either against recordings of the published design.
"""

from dnc_hw.activation import sigmoid_table
from dnc_hw.config import machine_from, read_machine
from dnc_hw.devices import DEVICES, Device, device
from dnc_hw.edges import EdgeOrder, edges_listed, order_of, rtl_order
from dnc_hw.engine import Engine
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.issue import Hazard, Issue, RowClash
from dnc_hw.learning_rate import PUBLISHED_RATE, LearningRate
from dnc_hw.machine import Machine
from dnc_hw.model import Model
from dnc_hw.parameters import initial_parameters, parameters_from, write_parameters
from dnc_hw.presets import PRESETS, preset
from dnc_hw.rates import OperationEnergy, activity_of, energy_of, rates_of
from dnc_hw.resources import resources_of
from dnc_hw.saturation import Saturation
from dnc_hw.simulation import Report, as_pixels, simulate
from dnc_hw.storage import stored_items, total_bits, total_words
from dnc_hw.trace import Parameters, Trace
from dnc_hw.validation import validate

__all__ = [
    "DEVICES",
    "PRESETS",
    "PUBLISHED_RATE",
    "Device",
    "EdgeOrder",
    "Engine",
    "FixedPoint",
    "Hazard",
    "Issue",
    "LearningRate",
    "Machine",
    "Model",
    "OperationEnergy",
    "Parameters",
    "Report",
    "RowClash",
    "Saturation",
    "Trace",
    "activity_of",
    "as_pixels",
    "device",
    "edges_listed",
    "energy_of",
    "initial_parameters",
    "machine_from",
    "order_of",
    "parameters_from",
    "preset",
    "rates_of",
    "read_machine",
    "resources_of",
    "rtl_order",
    "sigmoid_table",
    "simulate",
    "stored_items",
    "total_bits",
    "total_words",
    "validate",
    "write_parameters",
]

"""A rough estimate of the energy of training, for comparing networks with each other.

Uncalibrated: the figures are those of a 45 nm chip (M. Horowitz, "Computing's energy problem",
ISSCC 2014), so neither this machine's nor any measured one's; only ratios mean something.
"""

from __future__ import annotations

# a 32-bit floating-point multiplication, 3.7 pJ, and addition, 0.9 pJ
PJ_PER_MULTIPLY_ADD = 4.6
# a 32-bit word from DRAM, 640 pJ
PJ_PER_BYTE = 160.0
# the memory a step holds is written once and read once
MOVES_PER_STEP = 2


def joules_per_sample(training_multiply_adds: float, step_bytes: float, batch_size: int) -> float:
    """Return the estimate for one sample's share of a training step.

    `training_multiply_adds` are per sample, `step_bytes` what a step of `batch_size` samples holds,
    taken to go out to DRAM and back once.
    """
    moved_bytes = MOVES_PER_STEP * step_bytes / batch_size
    return (training_multiply_adds * PJ_PER_MULTIPLY_ADD + moved_bytes * PJ_PER_BYTE) * 1e-12

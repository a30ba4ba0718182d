"""Time sparse junctions against dense ones, torch's sparse matrices and other libraries.

Everything that is compared is timed in one run, in interleaved rounds, and reported as medians and
their ratios. Every candidate's results are checked against the oracle before a clock starts, and
one that cannot do something says why.
"""

from dnc_sparse.bench.candidates import CANDIDATES
from dnc_sparse.bench.cpu_suite import CPU_SUITE
from dnc_sparse.bench.gpu_suite import GPU_SUITE
from dnc_sparse.bench.junction import AGAINST, JUNCTION_OPERATIONS, Timing, measure
from dnc_sparse.bench.measures import DTYPES
from dnc_sparse.bench.planner_suite import PLANNER_SUITE
from dnc_sparse.bench.problem import OPERATIONS, Problem
from dnc_sparse.bench.timer import interleaved

SUITES = {"cpu": CPU_SUITE, "planner": PLANNER_SUITE, "gpu": GPU_SUITE}

__all__ = [
    "AGAINST",
    "CANDIDATES",
    "DTYPES",
    "JUNCTION_OPERATIONS",
    "OPERATIONS",
    "SUITES",
    "Problem",
    "Timing",
    "interleaved",
    "measure",
]

"""Patterns: which edges a junction has, and the families that draw them."""

from dnc_sparse.patterns.allocation import allocate, allocate_blocks, overall_density
from dnc_sparse.patterns.banked import (
    AccessSchedule,
    CyclicRule,
    access_schedule,
    clash_free,
    cyclic,
    cyclic_rule,
    default_banks,
)
from dnc_sparse.patterns.blocks import choose_block
from dnc_sparse.patterns.checks import Balance, Clash, balance, clashes, find_clashes
from dnc_sparse.patterns.counting import count_access_patterns
from dnc_sparse.patterns.edge_lists import as_pattern, from_edges, from_scipy
from dnc_sparse.patterns.families import from_mask, random, regular
from dnc_sparse.patterns.feasible import feasible_densities, neighbours
from dnc_sparse.patterns.pattern import Pattern
from dnc_sparse.patterns.rounding import nearest
from dnc_sparse.patterns.scatter_metric import Scatter, scatter, windows_1d, windows_2d

__all__ = [
    "AccessSchedule",
    "Balance",
    "Clash",
    "CyclicRule",
    "Pattern",
    "Scatter",
    "access_schedule",
    "allocate",
    "allocate_blocks",
    "as_pattern",
    "balance",
    "choose_block",
    "clash_free",
    "clashes",
    "count_access_patterns",
    "cyclic",
    "cyclic_rule",
    "default_banks",
    "feasible_densities",
    "find_clashes",
    "from_edges",
    "from_mask",
    "from_scipy",
    "nearest",
    "neighbours",
    "overall_density",
    "random",
    "regular",
    "scatter",
    "windows_1d",
    "windows_2d",
]

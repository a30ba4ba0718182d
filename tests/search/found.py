"""Findings made up for tests: a small space, errors by a formula, no training."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from dnc_search.definition import Search
from dnc_search.findings import Findings
from dnc_search.record import Record
from dnc_search.space import Bayesian, Shape
from dnc_search.spaces import SparseMlp, space_record

SPACE = SparseMlp(hidden_layers=(0, 2), nodes=(8, 32))
SHAPE = Shape(12, 3)
SEARCH = Search(
    name="toy",
    data="morse",
    shape=asdict(SHAPE),
    space=space_record(SPACE),
    settings={"epochs": 4, "schedule": "cosine"},
    w_c=(0.0, 0.1, 10.0),
    final_seeds=2,
)


def parameters(config: dict[str, object]) -> float:
    model = SPACE.build(config, SHAPE, 0)
    return float(sum(p.numel() for p in model.parameters()))


def made_up(candidates: int = 12) -> Findings:
    """Return the findings of a search in which larger networks are better."""
    stage = SPACE.stages(SHAPE)[0]
    assert isinstance(stage, Bayesian)
    rng = np.random.default_rng(0)
    largest = SPACE.largest(SHAPE)
    records = []
    for slot in range(candidates):
        config = SPACE.complete(stage.values(rng.random(stage.dimensions)), SHAPE)
        size = parameters(config)
        error = 0.05 + 1 / size**0.5
        measures = {"error": error, "parameters": size, "seconds_per_epoch": 1e-4 * size}
        curve = tuple(error * factor for factor in (2, 1.5, 1.2, 1))
        records.append(Record("architecture", slot, config, "complete", measures, curve, 2.0))
    records[3] = replace(records[3], state="failed", failure="out of memory", measures={}, curve=())
    records[4] = replace(records[4], state="stopped", curve=records[4].curve[:2])
    baseline = {"parameters": parameters(largest), "seconds_per_epoch": 0.2}
    return Findings(SEARCH, SPACE, SHAPE, baseline, records)


def with_finals(findings: Findings) -> Findings:
    """Return the findings with final runs, of which those of the smallest winner failed."""
    finals = []
    for same in findings.winners().values():
        record = same[0].record
        for seed in range(2):
            measures = {"test_error": record.error + 0.01 * seed}
            run = Record("final", len(finals), record.config, "complete", measures)
            finals.append(run)
    failed = replace(finals[-1], state="failed", failure="no memory left", measures={})
    return replace(findings, finals=[*finals[:-1], failed])

"""Which parameters go with a good score: rank correlation and correlation ratio, no model fitted.

| name | meaning                                                                    |
|------|----------------------------------------------------------------------------|
| rho  | Spearman's rank correlation of a number with the score                     |
| eta  | correlation ratio: the square root of the share of the ranks' variance     |
|      | that lies between the groups of a choice                                   |
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from dnc_search.findings import Findings
from dnc_search.space import Bayesian

# fewer say nothing
MIN_RECORDS = 5


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's rank correlation of a and b: [n] each, 0 where one does not vary."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def importance(findings: Findings, w_c: float) -> dict[str, float]:
    """Return the strength of each parameter's association with the score, 0 to 1, strongest first.

    |rho| for numbers, eta for choices, over the candidates that have the parameter; parameters that
    no stage so far has decided (presets), that do not vary, or occur in fewer than 5 candidates,
    are left out. It says what went with good scores in this search, not what causes them.
    """
    able = findings.able
    found = {}
    for name in sorted(_decided(findings)):
        own = [record for record in able if name in record.config]
        values = [record.config[name] for record in own]
        if len(own) < MIN_RECORDS or len(set(values)) < 2:
            continue
        ranks = stats.rankdata([findings.score(record, w_c) for record in own])
        if any(isinstance(value, str) for value in values):
            found[name] = _correlation_ratio([str(value) for value in values], ranks)
        else:
            found[name] = abs(rank_correlation(np.asarray(values, float), ranks))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _decided(findings: Findings) -> set[str]:
    """Return the names that the stages of the candidates chose values for."""
    stages = {stage.name: stage for stage in findings.space.stages(findings.shape)}
    names: set[str] = set()
    for record in findings.able:
        stage = stages.get(record.stage)
        if stage is None:
            # a network found elsewhere was decided there, as a whole
            names.update(record.config)
        elif isinstance(stage, Bayesian):
            names.update(parameter.name for parameter in stage.parameters)
        else:
            names.update(name for change in stage.changes(record.config) for name in change)
    return names


def _correlation_ratio(groups: list[str], ranks: np.ndarray) -> float:
    total = float(np.var(ranks)) * len(ranks)
    if total == 0:
        return 0.0
    labels = np.asarray(groups)
    between = sum(
        (labels == group).sum() * (ranks[labels == group].mean() - ranks.mean()) ** 2
        for group in set(groups)
    )
    return float(np.sqrt(between / total))

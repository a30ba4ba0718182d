"""How well figures that are known before training went with the errors after it.

| name | meaning                                                             |
|------|---------------------------------------------------------------------|
| rho  | Spearman's rank correlation                                         |
| z    | the parameters, which cost nothing to know and so must be surpassed |

Partial rank correlation, of x and y beyond z:
(rho_xy - rho_xz rho_yz) / sqrt((1 - rho_xz^2) (1 - rho_yz^2)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnc_search.findings import Findings
from dnc_search.importance import MIN_RECORDS, rank_correlation

PARAMETERS = "parameters"


@dataclass(frozen=True)
class Foresight:
    """The rank correlation of a figure with the error, -1 where the highest has the lowest.

    `beyond` is what is left of it beyond the parameters; None for these, and where the one follows
    from the other.
    """

    name: str
    rho: float
    beyond: float | None


def foresight(findings: Findings) -> list[Foresight]:
    """Return how the parameters and every zero-cost proxy foretold the validation error.

    Over the networks of the first stage that were trained to their end: later ones differ in how
    they are trained, of which these figures know nothing. There is none for fewer than 5.
    """
    records = [
        record
        for record in findings.able
        if record.stage == findings.records[0].stage
        and record.state == "complete"
        and record.proxies
        and PARAMETERS in record.measures
    ]
    if len(records) < MIN_RECORDS:
        return []
    errors = np.array([record.error for record in records])
    parameters = np.array([record.measures[PARAMETERS] for record in records])
    found = [Foresight(PARAMETERS, rank_correlation(parameters, errors), None)]
    for name in records[0].proxies:
        if all(name in record.proxies for record in records):
            values = np.array([record.proxies[name] for record in records])
            rho = rank_correlation(values, errors)
            beyond = _partial(rho, rank_correlation(values, parameters), found[0].rho)
            found.append(Foresight(name, rho, beyond))
    return found


def _partial(xy: float, xz: float, yz: float) -> float | None:
    left = (1 - xz**2) * (1 - yz**2)
    return float((xy - xz * yz) / np.sqrt(left)) if left > 1e-12 else None

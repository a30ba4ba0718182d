"""Error and complexity as one figure, lower is better (Dey et al. 2020, arXiv 2004.00974).

f = log10(f_p + w_c * f_c),   f_c = sum over j of share_j * c_j / c_j0

| name    | meaning                                                                         |
|---------|---------------------------------------------------------------------------------|
| f_p     | validation error: 1 - accuracy, or mean squared error over variance             |
| c_j     | complexity j of the candidate                                                   |
| c_j0    | the same of the baseline, the largest network of the space                      |
| share_j | what part of f_c complexity j has; the shares add up to 1 (`penalty`)           |
| w_c     | what complexity is worth: 0 counts the error alone                              |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dnc_search.record import Record

PARAMETERS_ONLY: Mapping[str, float] = {"parameters": 1.0}
# a candidate without any error on the validation samples still has a logarithm
LEAST = 1e-6


@dataclass(frozen=True)
class Ranked:
    """A record and its f under some w_c."""

    record: Record
    score: float


def check_weights(w_c: float, penalty: Mapping[str, float]) -> None:
    """Raise ValueError unless w_c is 0 or more and the shares are too and add up to 1."""
    if not (math.isfinite(w_c) and w_c >= 0):
        raise ValueError(f"w_c must be 0 or more and finite, got {w_c}; 0 counts the error alone")
    shares = ", ".join(f"{name} {share:g}" for name, share in penalty.items()) or "none"
    if not all(math.isfinite(share) and share >= 0 for share in penalty.values()):
        raise ValueError(f"every share of the penalty must be 0 or more and finite, got {shares}")
    if not math.isclose(sum(penalty.values()), 1):
        raise ValueError(
            f"the shares of the penalty must add up to 1, got {shares}, which add up to "
            f"{sum(penalty.values()):g}"
        )


def relative_complexity(
    measures: Mapping[str, float],
    baseline: Mapping[str, float],
    penalty: Mapping[str, float] = PARAMETERS_ONLY,
) -> float:
    """Return f_c: 1 for the baseline itself.

    Raises ValueError for complexities that were not measured, and for one that the baseline has
    none of.
    """
    for whose, known in (("the candidate", measures), ("the baseline", baseline)):
        unknown = [name for name in penalty if name not in known]
        if unknown:
            there = ", ".join(name for name in known if not name.endswith("error")) or "none"
            raise ValueError(
                f"{', '.join(unknown)} of {whose} was not measured; measured: {there}; penalise "
                f"one of these, or search again with it among the measures"
            )
    for name in penalty:
        if not baseline[name] > 0:
            raise ValueError(
                f"{name} of the baseline is {baseline[name]:g}, so nothing can be relative to it; "
                f"leave it out of the penalty"
            )
    return sum(share * measures[name] / baseline[name] for name, share in penalty.items())


def score(
    measures: Mapping[str, float],
    baseline: Mapping[str, float],
    w_c: float,
    penalty: Mapping[str, float] = PARAMETERS_ONLY,
) -> float:
    """Return f of a candidate's measures. Raises ValueError as the functions above."""
    check_weights(w_c, penalty)
    f_c = relative_complexity(measures, baseline, penalty)
    return math.log10(max(measures["error"] + w_c * f_c, LEAST))


def judged_by(record: Record, baseline: Mapping[str, float]) -> Mapping[str, float]:
    """Return the measures that f is of: one that failed costs what the baseline does, all wrong."""
    return _always_wrong(baseline) if record.state == "failed" else record.measures


def rescore(
    records: Sequence[Record],
    baseline: Mapping[str, float],
    w_c: float,
    penalty: Mapping[str, float] = PARAMETERS_ONLY,
) -> list[Ranked]:
    """Rank candidates by f under this w_c, the best first; of equal ones the earlier is first.

    One that failed gets the score of a baseline that is always wrong, or that of the worst other
    candidate where it is higher, and comes last. Raises ValueError as `score`.
    """
    able = [record for record in records if record.state != "failed"]
    ranked = [Ranked(r, score(r.measures, baseline, w_c, penalty)) for r in able]
    wrong = score(_always_wrong(baseline), baseline, w_c, penalty)
    worst = max((each.score for each in ranked), default=wrong)
    failed = [Ranked(r, max(wrong, worst)) for r in records if r.state == "failed"]
    return sorted(ranked, key=lambda each: each.score) + failed


def _always_wrong(baseline: Mapping[str, float]) -> Mapping[str, float]:
    return {**baseline, "error": 1.0}

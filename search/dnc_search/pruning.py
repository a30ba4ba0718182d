"""Ending candidates early: Optuna's pruners, and one that foresees the end of a learning curve.

| name  | meaning                                     | shape    |
|-------|---------------------------------------------|----------|
| error | validation error after epoch e = 1, 2, ...  | [epochs] |
| last  | number of the last epoch                    |          |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from dnc_search.definition import PrunerName

# epochs before anything is judged: slow starters, deep or with much dropout, are cut otherwise
FIRST_EPOCHS = 5
# exponents c of a + b * e^-c that are tried
EXPONENTS = (0.25, 0.5, 1.0, 2.0)


class CurvePruner(BasePruner):
    """Stops a candidate whose learning curve will end above `limit`, by more than a `margin` of it.

    Reported values are errors after epochs 1, 2, ... of `epochs`. Without a limit it is the lowest
    value of the study's finished trials. The end is foreseen by `predicted_end`;
    nothing is judged in the first `first` epochs. Raises ValueError for a number out of
    range.
    """

    def __init__(
        self,
        epochs: int,
        *,
        limit: float | None = None,
        margin: float = 0.1,
        first: int = FIRST_EPOCHS,
    ) -> None:
        if epochs < 1 or first < 2:
            raise ValueError(
                f"a curve needs 2 points and an end: got first {first}, epochs {epochs}"
            )
        if margin < 0:
            raise ValueError(f"the margin must be 0 or more, got {margin}")
        self._epochs, self._limit, self._margin, self._first = epochs, limit, margin, first

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial should end now."""
        curve = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
        if not self._first <= len(curve) < self._epochs:
            return False
        limit = _best(study) if self._limit is None else self._limit
        if limit is None:
            return False
        return predicted_end(curve, self._epochs) > limit + self._margin * abs(limit)


def predicted_end(error: Sequence[float], last: int) -> float:
    """Return the error that a learning curve will reach by its last epoch.

    It is on the power law a + b * e^-c, b >= 0, that fits best by least squares, c one of a few.
    """
    known = np.asarray(error, dtype=np.float64)
    epoch = np.arange(1, len(known) + 1)
    fits = []
    for exponent in EXPONENTS:
        basis = np.stack([np.ones(len(known)), epoch**-exponent], axis=1)
        weight, *_ = np.linalg.lstsq(basis, known, rcond=None)
        if weight[1] < 0:
            weight = np.array([known.mean(), 0.0])
        residual = float(np.square(basis @ weight - known).sum())
        fits.append((residual, float(weight[0] + weight[1] * last**-exponent)))
    return min(fits)[1]


def pruner(name: PrunerName, epochs: int, *, limit: float | None = None) -> BasePruner:
    """Return the pruner of a search whose candidates train for `epochs`."""
    first = max(1, min(FIRST_EPOCHS, epochs // 3))
    match name:
        case "none":
            return NopPruner()
        case "asha":
            return SuccessiveHalvingPruner(min_resource=first)
        case "hyperband":
            # Optuna counts steps from 0
            return HyperbandPruner(min_resource=first, max_resource=epochs + 1)
        case "median":
            return MedianPruner(n_warmup_steps=first)
        case "curve":
            return CurvePruner(epochs, limit=limit)


def _best(study: Study) -> float | None:
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min((t.value for t in done if t.value is not None), default=None)

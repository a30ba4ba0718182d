"""Learning curves: their ends foreseen, and candidates stopped for them."""

from __future__ import annotations

import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from dnc_search.ledger import quiet_optuna
from dnc_search.pruning import CurvePruner, predicted_end, pruner


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0, 2.0])
def test_a_power_law_is_foreseen_exactly(exponent: float) -> None:
    curve = [0.1 + 0.5 * epoch**-exponent for epoch in range(1, 9)]
    assert predicted_end(curve, 40) == pytest.approx(0.1 + 0.5 * 40**-exponent)


def test_a_curve_that_rises_is_not_foreseen_to_fall() -> None:
    assert predicted_end([0.1, 0.2, 0.3, 0.4, 0.5], 20) == pytest.approx(0.3)


def run(limit: float | None, end: float) -> optuna.trial.FrozenTrial:
    with quiet_optuna():
        study = optuna.create_study(pruner=CurvePruner(20, limit=limit))
        study.add_trial(optuna.create_trial(value=0.1))
        trial = study.ask()
        for epoch in range(1, 21):
            trial.report(end + 0.3 / epoch, epoch)
            if trial.should_prune():
                break
        return study.trials[-1]


def test_a_hopeless_candidate_ends_early_and_a_good_one_does_not() -> None:
    assert run(limit=0.2, end=0.4).last_step == 5
    assert run(limit=0.2, end=0.15).last_step == 20
    # without a limit the best of the study is one
    assert run(limit=None, end=0.4).last_step == 5


def test_pruners_by_name() -> None:
    kinds = {
        "none": NopPruner,
        "asha": SuccessiveHalvingPruner,
        "hyperband": HyperbandPruner,
        "median": MedianPruner,
        "curve": CurvePruner,
    }
    for name, kind in kinds.items():
        assert isinstance(pruner(name, 10), kind)  # type: ignore[arg-type]


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^the margin must be 0 or more, got -1$"):
        CurvePruner(10, margin=-1)
    with pytest.raises(ValueError, match=r"^a curve needs 2 points and an end: got first 1"):
        CurvePruner(10, first=1)

"""Samplers: ours in anybody's Optuna study, Optuna's in our search."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import optuna
import pytest
from search.toy import STAGES

from dnc_search.ledger import quiet_optuna
from dnc_search.parameters import Choice, Integer, Real, Value
from dnc_search.proposal import SpaceExhausted
from dnc_search.record import config_key
from dnc_search.sampler import SAMPLERS, RampSampler, Request, suggest
from dnc_search.space import Bayesian

WIDTH = STAGES[0]
assert isinstance(WIDTH, Bayesian)


def minimise(sampler: optuna.samplers.BaseSampler, trials: int) -> list[int]:
    with quiet_optuna():
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda trial: abs(trial.suggest_int("width", 1, 1000) - 700), trials)
    return [trial.params["width"] for trial in study.trials]


def test_our_sampler_serves_a_study_of_optuna() -> None:
    stage = replace(WIDTH, initial=4)
    widths = minimise(RampSampler(stage, seed=1), 16)
    assert widths == minimise(RampSampler(stage, seed=1), 16)
    assert len(set(widths)) == 16
    # four points of a design, then nearer and nearer
    assert min(abs(width - 700) for width in widths) <= 5


def test_parameters_that_the_stage_does_not_know_are_drawn() -> None:
    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_int("width", 1, 1000) + trial.suggest_float("other", 0, 1)

    with quiet_optuna():
        study = optuna.create_study(sampler=RampSampler(WIDTH, seed=1))
        study.optimize(objective, 3)
    assert len({trial.params["other"] for trial in study.trials}) == 3


def test_a_study_with_two_goals_is_refused() -> None:
    with quiet_optuna():
        study = optuna.create_study(directions=["minimize"] * 2, sampler=RampSampler(WIDTH))
        trial = study.ask()
        with pytest.raises(ValueError, match=r"^RampSampler minimises one figure, the study has 2"):
            trial.suggest_int("width", 1, 1000)


def request(losses: dict[float, float], seed: int = 0) -> Request:
    """A request after losses at points of the unit interval."""
    configs: list[dict[str, Value]] = [WIDTH.values([u]) for u in losses]
    return Request(
        stage=WIDTH,
        base={},
        observed=list(zip(configs, losses.values(), strict=True)),
        pending=[],
        avoid=set(map(config_key, configs)),
        points={config_key(c): [u] for c, u in zip(configs, losses, strict=True)},
        initial=None,
        stage_seed=0,
        seed=seed,
    )


@pytest.mark.parametrize("name", ["ramp", "tpe", "gp"])
def test_samplers_learn_from_what_they_are_told(name: str) -> None:
    # lowest at 0.8, between two of them
    losses = {(u + 0.5) / 20: ((u + 0.5) / 20 - 0.8) ** 2 for u in range(20)}
    with quiet_optuna():
        widths = [int(SAMPLERS[name](request(losses, s)).values["width"]) for s in range(6)]
    assert sum(600 < width < 950 for width in widths) >= 4, widths


def test_a_small_space_is_exhausted_with_an_error() -> None:
    tiny = replace(WIDTH, parameters=(Integer("width", 1, 2),))
    full = replace(request({}), stage=tiny, avoid={'{"width": 1}', '{"width": 2}'})
    for sample in SAMPLERS.values():
        with quiet_optuna(), pytest.raises(SpaceExhausted, match=r"^stage width has nothing new"):
            sample(full)


def test_optuna_is_asked_for_ranges_as_they_are() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    for parameter in (Integer("a", 1, 9, log=True), Real("b", 0.1, 1.0), Choice("c", ("x", 2))):
        parameter.check(suggest(trial, parameter))
    assert set(trial.params) == {"a", "b", "c"}


def test_the_core_does_without_optuna() -> None:
    program = "import sys, dnc_search.proposal; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

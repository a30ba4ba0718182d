"""Candidates are trained, measured and repeat; those that go wrong are results too."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from search.tiny_space import (
    CLASSES,
    NUMBERS,
    SETTINGS,
    SparseSpace,
    TinySpace,
    WrongSpace,
    config,
    measured,
    raising,
    too_large,
)
from sparse.small_runs import assert_same
from torch import nn

from dnc_search.evaluation import (
    Evaluation,
    Settings,
    count,
    evaluate,
    evaluate_final,
    measure_baseline,
    shape_of,
)
from dnc_search.record import Record
from dnc_search.space import Shape
from dnc_sparse.data import DataSet, Split, join_validation
from dnc_sparse.training import Epoch, FitConfig, StopTraining, fit

ALL = (
    "parameters",
    "edges",
    "flops",
    "seconds_per_epoch",
    "peak_bytes",
    "latency_seconds",
    "joules_per_sample",
)
TIMED = ("seconds_per_epoch", "latency_seconds")


def failing(wrong: Callable[[torch.Tensor], torch.Tensor]) -> Evaluation:
    return evaluate(WrongSpace(wrong=wrong), config(), CLASSES, measured("parameters"))


def untimed(evaluation: Evaluation) -> tuple[object, ...]:
    counted = {k: v for k, v in evaluation.measures.items() if k not in TIMED}
    return evaluation.state, evaluation.curve, counted


@pytest.mark.parametrize("space", [TinySpace(), SparseSpace()])
def test_a_candidate_is_trained_and_measured(space: TinySpace) -> None:
    seen: list[Epoch] = []
    done = evaluate(space, config(), CLASSES, measured(*ALL), on_epoch=seen.append)
    assert (done.state, done.failure) == ("complete", None)
    assert set(done.measures) == {"error", *ALL}
    assert all(value > 0 for name, value in done.measures.items() if name != "error")
    # the last epoch's, whichever was best
    assert done.curve == tuple(row.validation_error for row in seen)
    assert done.measures["error"] == done.curve[-1]
    assert len(done.curve) == 3
    assert 0 < done.measures["seconds_per_epoch"] < done.seconds
    record = Record("network", 0, config(), done.state, done.measures, done.curve, done.seconds)
    assert (record.error, record.epochs) == (done.curve[-1], 3)


def test_the_last_epoch_counts_not_the_best() -> None:
    class Turning(nn.Module):
        """Answers the opposite after the second epoch of 5 steps."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.steps = inner, 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.steps += self.training
            y: torch.Tensor = self.inner(x)
            return y if self.training or self.steps <= 10 else -y

    class TurningSpace(TinySpace):
        def build(self, config: Any, shape: Shape, seed: int) -> nn.Module:
            return Turning(super().build(config, shape, seed))

    done = evaluate(TurningSpace(), config(), CLASSES, measured("parameters"))
    assert done.measures["error"] == done.curve[2] > done.curve[1]


def test_it_trains_as_fit_does() -> None:
    torch.manual_seed(7)
    model = TinySpace().build(config(), shape_of(CLASSES), 7)
    settings = FitConfig(3, 32, learning_rate=0.01, seed=7, schedule="cosine", weight_decay=1e-3)
    history = fit(model, CLASSES, settings, progress=False)
    done = evaluate(TinySpace(), config(weight_decay=1e-3), CLASSES, SETTINGS, 7)
    assert done.curve == tuple(row.validation_error for row in history.epochs)


@pytest.mark.parametrize("space", [TinySpace(), SparseSpace()])
def test_one_seed_one_result_whatever_came_before(space: TinySpace) -> None:
    torch.manual_seed(1)
    one = evaluate(space, config(), CLASSES, measured(*ALL), 5)
    torch.manual_seed(2)
    fewer = evaluate(space, config(), CLASSES, measured("parameters"), 5)
    other = evaluate(space, config(), CLASSES, measured(*ALL), 6)
    again = evaluate(space, config(), CLASSES, measured(*ALL), 5)
    assert untimed(one) == untimed(again)
    # what is measured does not change what is learnt
    assert one.curve == fewer.curve
    assert one.curve != other.curve


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    evaluate(TinySpace(), config(), CLASSES, measured(*ALL))
    assert torch.equal(torch.get_rng_state(), state)


def test_regression() -> None:
    settings = replace(SETTINGS, epochs=15)
    done = evaluate(TinySpace(), config(), NUMBERS, settings)
    assert done.state == "complete"
    assert 0 < done.measures["error"] < 1


def marked() -> DataSet:
    """Test samples that a network can tell from all others."""
    return replace(CLASSES, test=Split(torch.full((3, 12), 7.0), torch.tensor([0, 1, 2])))


def test_the_test_set_is_not_touched() -> None:
    def look(y: torch.Tensor) -> torch.Tensor:
        return y

    class Watch(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not bool((x == 7).any()), "the test set"
            y: torch.Tensor = self.inner(x)
            return y

    class WatchSpace(TinySpace):
        def build(self, config: Any, shape: Shape, seed: int) -> nn.Module:
            return Watch(super().build(config, shape, seed))

    assert evaluate(WatchSpace(), config(), marked(), measured(*ALL)).failure is None
    final = evaluate_final(WatchSpace(), config(), marked(), measured(*ALL))
    assert "the test set" in str(final.failure)


def test_the_final_run_trains_on_everything_and_is_tested() -> None:
    seen: list[Epoch] = []
    kept: list[nn.Module] = []
    final = evaluate_final(TinySpace(), config(), CLASSES, SETTINGS, 3, seen.append, kept.append)
    torch.manual_seed(3)
    model = TinySpace().build(config(), shape_of(CLASSES), 3)
    history = fit(model, join_validation(CLASSES), SETTINGS.fit_config(config(), 3), progress=False)
    assert final.measures["test_error"] == history.epochs[-1].test_error
    assert "error" not in final.measures
    assert (final.state, final.curve) == ("complete", ())
    assert [row.test_error is None for row in seen] == [True, True, False]
    assert_same(kept[0], model)
    joined = evaluate_final(TinySpace(), config(), join_validation(CLASSES), SETTINGS, 3)
    assert joined.measures["test_error"] == final.measures["test_error"]


def test_a_final_run_that_is_stopped_is_not_tested() -> None:
    def stop(row: Epoch) -> None:
        raise StopTraining

    final = evaluate_final(TinySpace(), config(), CLASSES, SETTINGS, on_epoch=stop)
    assert final.state == "stopped"
    assert "test_error" not in final.measures


def test_weights_that_cannot_be_kept_are_no_failure() -> None:
    def full(model: nn.Module) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match=r"^no space left on device$"):
        evaluate_final(TinySpace(), config(), CLASSES, SETTINGS, keep=full)


def test_counts_need_no_training() -> None:
    settings = measured(*ALL)
    counted = count(TinySpace(), config(), CLASSES, settings)
    assert set(counted) == {"parameters", "edges", "flops"}
    trained = evaluate(TinySpace(), config(), CLASSES, settings)
    assert counted == {name: trained.measures[name] for name in counted}
    assert count(TinySpace(), config(-1), CLASSES, settings) == {}


# --- stopping and what comes from outside


def test_on_epoch_stops_a_candidate() -> None:
    def stop(row: Epoch) -> None:
        if row.epoch == 2:
            raise StopTraining

    done = evaluate(TinySpace(), config(), CLASSES, SETTINGS, on_epoch=stop)
    assert (done.state, len(done.curve)) == ("stopped", 2)
    assert done.measures["error"] == done.curve[-1]
    assert done.measures["seconds_per_epoch"] > 0


@pytest.mark.parametrize("error", [ConnectionError("ledger lost"), KeyboardInterrupt()])
def test_errors_of_on_epoch_are_no_failures(error: BaseException) -> None:
    def lose(row: Epoch) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        evaluate(TinySpace(), config(), CLASSES, SETTINGS, on_epoch=lose)
    assert raised.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_being_told_to_end_is_no_failure(error: BaseException) -> None:
    with pytest.raises(type(error)):
        failing(raising(error))


# --- failures


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (raising(ZeroDivisionError("in forward")), r"ZeroDivisionError: in forward \(tiny_space"),
        (raising(MemoryError()), r"out of memory: MemoryError: +\(tiny_space.py:\d+\)$"),
        (
            raising(torch.OutOfMemoryError("CUDA out of memory. Tried to")),
            r"out of memory: OutOfMemoryError: CUDA out of memory\. Tried to \(tiny_space",
        ),
        (too_large, r"out of memory: RuntimeError: .*can't allocate memory.*\(tiny_space"),
        (
            lambda y: y * float("nan"),
            r"Diverged: the loss became nan in epoch 1; lower the learning rate .*\(train",
        ),
    ],
)
def test_what_goes_wrong_is_a_result(
    wrong: Callable[[torch.Tensor], torch.Tensor], reason: str
) -> None:
    done = failing(wrong)
    assert (done.state, done.curve) == ("failed", ())
    assert re.match(reason, str(done.failure)), done.failure
    # what was known before stays
    assert done.measures == {"parameters": 12 * 8 + 8 + 8 * 4 + 4}
    record = Record("network", 0, config(), done.state, done.measures, failure=done.failure)
    assert record.error == 1


def test_a_network_that_cannot_be_built() -> None:
    done = evaluate(TinySpace(), config(-1), CLASSES, SETTINGS)
    assert done.state == "failed"
    assert done.measures == {}
    assert re.match(r"RuntimeError: .*\((init|linear|tiny_space|__init__)", str(done.failure))


def test_a_prediction_that_is_not_finite() -> None:
    class Blind(WrongSpace):
        def build(self, config: Any, shape: Shape, seed: int) -> nn.Module:
            return nn.Sequential(super().build(config, shape, seed), Evaluated())

    class Evaluated(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if self.training else x * float("inf")

    done = evaluate(Blind(), config(), NUMBERS, measured("parameters"))
    assert done.state == "failed"
    assert re.match(r"ArithmeticError: the error became (inf|nan) in epoch 1 ", str(done.failure))


def test_the_curve_of_a_failure_is_kept() -> None:
    calls: list[int] = []

    def late(y: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        # 5 steps an epoch
        return y * float("nan") if len(calls) > 5 else y

    done = failing(late)
    assert (done.state, len(done.curve)) == ("failed", 1)


def test_a_long_reason_is_cut() -> None:
    assert len(str(failing(raising(ValueError("x" * 9000))).failure)) < 600


# --- the baseline


def test_the_baseline_is_the_largest_network() -> None:
    done = measure_baseline(TinySpace(most=20), CLASSES, measured(*ALL))
    assert set(done.measures) == set(ALL)
    assert done.measures["parameters"] == 12 * 20 + 20 + 20 * 4 + 4
    assert (done.state, done.curve) == ("complete", ())


def test_the_baseline_is_trained_only_for_its_time() -> None:
    seen: list[Epoch] = []
    measure_baseline(TinySpace(), CLASSES, measured("parameters", "flops"), seen.append)
    assert not seen
    many = measured("seconds_per_epoch", epochs=50)
    done = measure_baseline(TinySpace(), CLASSES, many, seen.append)
    assert [row.epoch for row in seen] == [1, 2, 3]
    assert done.measures["seconds_per_epoch"] == sorted(row.seconds for row in seen[1:])[0] / 2 + (
        sorted(row.seconds for row in seen[1:])[1] / 2
    )


def test_a_baseline_that_fails_says_so() -> None:
    done = measure_baseline(WrongSpace(wrong=raising(MemoryError())), CLASSES, SETTINGS)
    assert (done.state, str(done.failure)[:14]) == ("failed", "out of memory:")


# --- data and settings


def test_shapes() -> None:
    assert shape_of(CLASSES) == Shape(12, 4)
    assert shape_of(NUMBERS) == Shape(6, 2, regression=True)
    assert shape_of(replace(CLASSES, image_shape=(3, 4))).image == (1, 3, 4)
    assert shape_of(replace(CLASSES, image_shape=(3, 2, 2))).image == (3, 2, 2)


def test_data_without_validation() -> None:
    message = (
        r"^clusters has no validation split to judge candidates by; make one with split_validatio"
    )
    for call in (
        lambda data: evaluate(TinySpace(), config(), data, SETTINGS),
        lambda data: measure_baseline(TinySpace(), data, SETTINGS),
    ):
        with pytest.raises(ValueError, match=message):
            call(join_validation(CLASSES))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(
        RuntimeError, match=r"^the device 'cuda' cannot be used here: .*; search wi"
    ):
        evaluate(TinySpace(), config(), CLASSES, replace(SETTINGS, device="cuda"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"schedule": "stairs"}, "unknown schedule 'stairs'; choose constant or step or cosine"),
        ({"measures": ("size",)}, "unknown complexity 'size'; known: parameters, edges"),
        ({"measures": ("edges", "edges")}, "a measure is named twice: edges, edges"),
        ({"device": "gpu"}, "unknown device 'gpu'; choose cpu, cuda or cuda:0"),
        ({"latency_batch": 0}, "latency_batch must be at least 1 sample, got 0"),
    ],
)
def test_what_settings_refuse(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Settings(**change)

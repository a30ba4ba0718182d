"""The table of measures, how they are taken and shown, the pictures; no test looks at a time."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from dnc_sparse.backends import device_race, gpu
from dnc_sparse.bench import CANDIDATES, OPERATIONS, SUITES, figures, report, roofs, suite, sweep
from dnc_sparse.bench.cpu_suite import CPU_SUITE, at_least, at_most, over, ragged, scaling
from dnc_sparse.bench.device_timer import interleaved_on_device
from dnc_sparse.bench.gpu_suite import BLOCKS, GPU_SUITE
from dnc_sparse.bench.measures import DTYPES, Goal, Measure, Run, Setting
from dnc_sparse.cli import bench_suite, main

TINY = Setting(32, 16, 4, 1 / 4)
SHORT = suite.Effort(rounds=1, budget_s=0, heavy=False)
FORWARD = over("linear", "forward / dense", "1/4", "forward", at_most(0.5), TINY)


def with_seconds(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> list[dict[str, object]]:
    """Let the timer return these medians; the list returned fills with what it was asked."""
    asked: list[dict[str, object]] = []

    def interleaved(functions: object, rounds: int, **options: object) -> list[float]:
        asked.append({"rounds": rounds, **options})
        return list(seconds)

    monkeypatch.setattr(suite, "interleaved", interleaved)
    return asked


def test_the_table_of_the_cpu_suite() -> None:
    names = [measure.name for measure in CPU_SUITE]
    assert len(set(names)) == len(names)
    for measure in CPU_SUITE:
        assert "sparse" in (measure.run.candidate, measure.against.candidate)
        for run in (measure.run, measure.against):
            assert run.candidate in CANDIDATES
            assert run.operation in OPERATIONS
            assert run.setting.dtype in DTYPES
    limits = {measure.name: str(measure.goal) for measure in CPU_SUITE}
    assert limits["step / dense (1/64)"] == "<= 0.05"
    assert limits["torch CSR step / step (1/8)"] == ">= 4"
    assert limits["blocks, step / 3 oneDNN forwards (16x16)"] == "<= 0.15"
    assert sum(name.startswith("shapes") for name in names) == 32


def test_the_grid_of_the_planner() -> None:
    grid = SUITES["planner"]
    assert len({measure.name for measure in grid}) == len(grid) == 360
    assert {str(measure.goal) for measure in grid} == {"<= 1.05"}
    assert all((m.run.candidate, m.against.candidate) == ("sparse", "linear") for m in grid)
    assert all(measure.run.setting == measure.against.setting for measure in grid)


@pytest.mark.parametrize(
    ("goal", "met", "missed"),
    [
        (Goal("<=", 0.5), 0.5, 0.51),
        (Goal("<", 0.5), 0.49, 0.5),
        (Goal(">=", 4), 4.0, 3.9),
    ],
    ids=str,
)
def test_goals(goal: Goal, met: float, missed: float) -> None:
    assert goal.met(met)
    assert not goal.met(missed)


def test_a_setting_tells_its_junction() -> None:
    assert str(TINY) == "32 -> 16, batch 4, 1/4"
    blocked = Setting(64, 64, 1, 1 / 2, block=4, dtype="bfloat16")
    assert str(blocked) == "64 -> 64, batch 1, 1/2, 4x4, bfloat16"
    problem = blocked.problem()
    assert (problem.pattern.block, problem.batch, problem.dtype) == ((4, 4), 1, torch.bfloat16)
    assert problem.pattern.density == 1 / 2


@pytest.mark.parametrize(
    ("measure", "threads", "value", "met", "counts"),
    [
        (FORWARD, 1, 0.25, True, [1, 1]),
        (replace(FORWARD, factor=3), 2, 0.75, False, [2, 2]),
        (replace(scaling("step"), goal=at_least(0.2)), 0, 0.25, True, [1, 2]),
        (ragged("forward"), 1, 0.256, True, [1, 1]),
    ],
)
def test_value_and_verdict(
    measure: Measure,
    threads: int,
    value: float,
    met: bool,
    counts: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    asked = with_seconds(monkeypatch, 1.0, 4.0)
    outcome = suite.Suite(SHORT).take(replace(measure, hot=True), threads)
    assert outcome.value == pytest.approx(value)
    assert outcome.met is met
    assert (outcome.seconds, outcome.against_seconds) == (1.0, 4.0)
    assert asked == [{"rounds": 1, "hot": True, "threads": counts, "budget_s": 0}]


def test_the_plan_repeats_what_follows_the_threads() -> None:
    fixed = scaling("forward")
    assert suite.plan([FORWARD, fixed], (1, 2)) == [(FORWARD, 1), (FORWARD, 2), (fixed, 0)]


def test_why_a_measure_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taker = suite.Suite(SHORT)
    heavy = over("linear", "row", "heavy", "step", at_most(1), Setting(4096, 4096, 1024))
    assert taker.take(heavy, 1).unavailable == "left out of a quick run"
    asked = replace(TINY, dtype="bfloat16")
    outcome = taker.take(over("csr", "row", "bfloat16", "step", at_most(1), asked), 1)
    assert outcome.unavailable == "it computes in float32, float64, not in bfloat16"
    assert outcome.met is None
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert taker.take(FORWARD, 2).unavailable == "2 threads on 1 core"


def test_table_and_record() -> None:
    fixed = replace(FORWARD, run=Run("sparse", "step", TINY, 1), detail="own threads")
    outcomes = [
        suite.Outcome(FORWARD, 1, 1.0, 4.0, 0.25),
        suite.Outcome(FORWARD, 2, 3.0, 4.0, 0.75),
        suite.Outcome(fixed, 0, unavailable="2 threads on 1 core"),
    ]
    console = Console(width=100)
    with console.capture() as shown:
        console.print(report.table(outcomes, (1, 2), "title"))
    lines = [line.split() for line in shown.get().splitlines()]
    assert ["forward", "/", "dense", "1/4", "0.250", "0.750"] in lines
    assert ["own", "threads", "-"] in lines
    with console.capture() as shown:
        console.print(report.table(outcomes, (1, 2), "title", goals=True))
    lines = [line.split() for line in shown.get().splitlines()]
    words = ["forward", "/", "dense", "1/4", "<=", "0.5", "0.250", "met", "0.750", "missed"]
    assert words in lines
    assert ["own", "threads", "<=", "0.5", "-"] in lines
    assert report.summary(outcomes) == "1 of 2 goals met"
    record = json.loads(json.dumps(report.record(outcomes, SHORT)))
    assert [row["met"] for row in record["measures"]] == [True, False, None]
    assert record["measures"][0]["run"]["setting"]["n_in"] == 32
    assert record["machine"]["instruction_set"]


def test_reasons_are_told_once() -> None:
    rows = [("a", "no"), ("b", None), ("c", "no"), ("a", "no"), ("d", "never")]
    assert report.reasons(rows) == ["a, c: no", "d: never"]


def test_roofs_are_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    found = roofs.probe()
    assert min(found.flops_per_s, found.memory_bytes_per_s, found.cache_bytes_per_s) > 0


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the sweep and the probe small."""
    monkeypatch.setattr(roofs, "SIDE", 16)
    monkeypatch.setattr(roofs, "MEMORY_BYTES", 2**12)
    monkeypatch.setattr(sweep, "BASE", Setting(32, 32, 4))
    monkeypatch.setattr(sweep, "plan", lambda: [(1 / 2, 1), (1 / 2, 4), (1 / 4, 1)])


def test_sweep_names_candidates_with_their_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    plain = sweep.points(1 / 2, 1, rounds=1, budget_s=None)
    blocked = sweep.points(1 / 2, 4, rounds=1, budget_s=None)
    assert {point.candidate for point in plain + blocked} <= figures.LOOKS.keys()
    assert {point.candidate for point in blocked} == {"SparseLinear 4x4", "torch.sparse BSR 4x4"}
    # 2 operations for each of 512 edges and 4 samples; 4 bytes for x, y and weights
    assert plain[0].intensity == 2 * 512 * 4 / (4 * (4 * 64 + 512))


@pytest.mark.filterwarnings("always:this machine is busy")
def test_the_command_takes_draws_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    shrink(monkeypatch)
    monkeypatch.setattr("os.getloadavg", lambda: (1.26, 0.0, 0.0))
    lame = over("csr", "CSR, bfloat16", "1/4", "step", at_most(1), replace(TINY, dtype="bfloat16"))
    monkeypatch.setitem(SUITES, "cpu", (FORWARD, lame))
    files = ["--json", str(tmp_path / "cpu.json"), "--plot", str(tmp_path / "pictures")]
    threads = torch.get_num_threads()
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--suite", "cpu", "--quick", "--rounds", "1", "--threads", "1", *files])
    assert stop.value.code == 0
    assert torch.get_num_threads() == threads
    out, err = capsys.readouterr()
    assert "goal" not in out
    assert " met" not in out
    assert "-  CSR, bfloat16: it computes in float32, float64, not in bfloat16" in out
    assert "scipy CSR step: scipy has no gradients" in out
    assert "warning: this machine is busy (load average 1.3): figures with two threads will" in err
    assert "[1/2] forward / dense (1/4), 1 thread\n" in err
    assert "pictures: density 1/2, 4x4" in err
    record = json.loads((tmp_path / "cpu.json").read_text())
    assert len(record["measures"]) == 2
    assert {point["density"] for point in record["sweep"]} == {1 / 2, 1 / 4}
    assert record["effort"]["rounds"] == 1
    for name in ("speed-up", "roofline"):
        assert (tmp_path / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_goals_are_shown_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setitem(SUITES, "cpu", (FORWARD, scaling("forward")))
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--suite", "cpu", "--quick", "--rounds", "1", "--goals", "--only", "dense"])
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    assert re.search(r"[012] of [12] goals met", out)
    assert "<= 0.5" in out
    # what repeats a measure is said
    assert [line.partition("), ")[2] for line in err.splitlines()] == ["1 thread", "2 threads"]


def test_pictures_need_matplotlib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--suite", "cpu", "--plot", str(tmp_path / "pictures")])
    assert stop.value.code == 2
    assert "drawing needs matplotlib: pip install 'dnc-sparse[plot]'" in capsys.readouterr().err
    assert not (tmp_path / "pictures").exists()


# --- devices


def test_the_table_of_the_gpu_suite() -> None:
    names = [measure.name for measure in GPU_SUITE]
    assert len(set(names)) == len(names)
    goals = {measure.name: str(measure.goal) for measure in GPU_SUITE}
    assert goals["dense / ours, step, block 128 (1/16)"] == ">= 8"
    assert goals["dense / ours, step, block 16 (1/2)"] == ">= 0.4"
    assert goals["dense / ours, forward, 1x1, IEEE float32 (1/16)"] == ">= 3"
    assert sum(name.startswith("two-four") for name in names) == 2
    for measure in GPU_SUITE:
        assert measure.run.setting.device == "cuda"
        assert {measure.run.candidate, measure.against.candidate} <= CANDIDATES.keys()
    # our own measures come first, those that docs/gpu-kernels.md turns on first of all
    assert GPU_SUITE[: len(BLOCKS)] == BLOCKS
    assert [measure.run.candidate for measure in BLOCKS] == ["linear"] * 32
    dense = ["linear" in (m.run.candidate, m.against.candidate) for m in GPU_SUITE]
    assert dense == sorted(dense, reverse=True)
    # neighbours share layers and inputs
    for part in (True, False):
        settings = [m.run.setting for m, own in zip(GPU_SUITE, dense, strict=True) if own == part]
        assert len({*settings}) == sum(a != b for a, b in pairwise([None, *settings]))


def test_the_first_table_of_the_gpu_suite() -> None:
    outcomes = [
        suite.Outcome(m, 0, 2.0, 1.0, (100 * m.run.setting.density) + (m.run.operation == "step"))
        for m in BLOCKS
    ]
    broken = replace(outcomes[-1], value=None, unavailable="broke")
    shown = report.block_table([*outcomes[:-1], broken])
    console = Console(width=120, record=True, file=StringIO())
    console.print(shown)
    lines = console.export_text().splitlines()
    rows = [line.split() for line in lines if line.split()[:1] in (["block"], ["128"], ["16"])]
    assert rows == [
        ["block", "of", "1/2", "1/4", "1/8", "1/16"],
        ["128", "step", "51.0", "26.0", "13.5", "7.250"],
        ["128", "forward", "50.0", "25.0", "12.5", "6.250"],
        ["16", "step", "51.0", "26.0", "13.5", "7.250"],
        ["16", "forward", "50.0", "25.0", "12.5", "-"],
    ]


def test_the_launch_is_hidden_behind_what_clears_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    order: list[str] = []

    class Event:
        def record(self) -> None:
            order.append("event")

        def elapsed_time(self, end: Event) -> float:
            return 2.0

    def empty(size: int, **_: object) -> SimpleNamespace:
        return SimpleNamespace(zero_=lambda: written.append(size))

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Event())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("wait"))
    seconds = interleaved_on_device([lambda: order.append("a"), lambda: order.append("b")], 1)
    assert seconds == [2e-3, 2e-3]
    # two rounds warm up
    assert order == ["event", "a", "event", "event", "b", "event", "wait"] * 3
    # 1 ms of the fastest memory before each call
    assert sum(written) == 6 * 2**32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_suite_needs_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--suite", "gpu"])
    assert stop.value.code != 0
    assert "suite 'gpu' cannot run here: torch finds no CUDA device" in capsys.readouterr().err


def test_only_takes_what_has_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--suite", "cpu", "--only", "no such thing"])
    assert stop.value.code != 0
    assert "no measure of suite 'cpu' has 'no such thing' in its name" in capsys.readouterr().err


def test_on_a_device_what_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: suite.Suite, measure: Measure, threads: int) -> suite.Outcome:
        raise RuntimeError("no such\nluck")

    monkeypatch.setattr(suite.Suite, "take", broken)
    taker = suite.Suite(SHORT)
    outcome = bench_suite._taken(taker, FORWARD, 0, keep_going=True)
    assert outcome.failed
    assert outcome.unavailable == "broke: RuntimeError: no such"
    with pytest.raises(RuntimeError, match=r"^no such"):
        bench_suite._taken(taker, FORWARD, 0, keep_going=False)


@pytest.mark.parametrize("lost", [False, True])
def test_a_device_is_asked_for_blocks_first(
    lost: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def take(self: suite.Suite, measure: Measure, threads: int) -> suite.Outcome:
        if "float32 (1/4)" in measure.name:
            raise RuntimeError("an illegal address")
        return suite.Outcome(measure, threads, 2.0, 1.0, 2.0)

    monkeypatch.setattr(suite.Suite, "take", take)
    monkeypatch.setattr(gpu, "unavailable", lambda device: None)
    monkeypatch.setattr(gpu, "card", lambda device: "a card")
    monkeypatch.setattr(device_race, "is_lost", lambda device: lost)
    file = tmp_path / "gpu.json"
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--suite", "gpu", "--json", str(file)])
    assert stop.value.code != 0
    out, err = capsys.readouterr()
    first, *_ = out.splitlines()
    assert first.startswith(
        "4096 -> 4096, 16384 samples, bfloat16: nn.Linear's time over SparseLinear's, a card, torch"
    )
    left = len(GPU_SUITE) - len(BLOCKS) - 1
    assert len(json.loads(file.read_text())["measures"]) == len(GPU_SUITE) - left * lost
    text = "1 measures broke: dense / ours, forward, 1x1, IEEE float32 (1/4)"
    end = f"; with the last the device was lost, {left} are left" if lost else ""
    assert err.endswith(f"error: {text}{end}\n")


def test_blocks_are_drawn(tmp_path: Path) -> None:
    outcomes = [suite.Outcome(m, 0, 2.0, 1.0, 2.0) for m in GPU_SUITE if "step" in m.row]
    figures.save_block_speed_up(outcomes, "a card", tmp_path / "blocks.png")
    assert (tmp_path / "blocks.png").stat().st_size > 10_000
    figures.save_block_speed_up([], "a card", tmp_path / "none.png")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_the_clock_of_a_device() -> None:
    a, b = (torch.randn(n, n, device="cuda") for n in (256, 4096))
    short, long = interleaved_on_device([lambda: a @ a, lambda: b @ b], 5)
    assert 0 < short < long < 1
    with pytest.raises(ValueError, match=r"^timing needs at least 1 round, got 0$"):
        interleaved_on_device([], 0)

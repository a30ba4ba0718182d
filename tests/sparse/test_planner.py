"""The planner: rules and measurements choose, and the file with the latter may be lost."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import assert_exact, normals, random_blocks, small_integers

import dnc_sparse
from dnc_sparse import SparseLinear
from dnc_sparse.backends import amx, cpu, measurements, planner, race
from dnc_sparse.backends.planner import DENSE, Case, Decision, Method
from dnc_sparse.cli import main
from dnc_sparse.patterns import Pattern, nearest

# enough work for a measurement, in little time
HALF = nearest(256, 256, density=1 / 2)
BATCH = 128


@pytest.fixture(autouse=True)
def without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let machines with AMX choose among what all have; test_amx.py tests the rest."""
    monkeypatch.setattr(amx, "unavailable", lambda dtype, block: "left out")


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def raced(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let each race be won by its last runner; the list fills with who ran."""
    races: list[list[str]] = []

    def rigged(runs: Iterable[tuple[str, object]]) -> dict[str, float]:
        races.append([name for name, _ in runs])
        return {name: 1.0 / (1 + place) for place, name in enumerate(races[-1])}

    monkeypatch.setattr(planner, "race", rigged)
    return races


def forward(pattern: Pattern, batch: int, dtype: torch.dtype = torch.float32) -> Decision:
    """Let the planner decide a forward pass with one thread."""
    inputs = normals(pattern, batch, dtype)
    arguments = (inputs.x, inputs.weight, inputs.bias, pattern)
    return planner.decide(Case(cpu.FORWARD, pattern, batch, dtype), 1, arguments)


# --- rules


def test_little_work_is_not_measured(raced: list[list[str]]) -> None:
    decision = forward(nearest(64, 64, density=1 / 2), 32)
    assert decision == Decision(
        Method(cpu.active_instruction_set()), "less than 2,097,152 multiplications: not measured"
    )
    assert not raced


def test_low_densities_only_tune_the_kernels(raced: list[list[str]]) -> None:
    decision = forward(nearest(256, 256, density=1 / 8), 256)
    best = cpu.active_instruction_set()
    assert raced == [[best, f"{best}/32", f"{best}/64", f"{best}/128", f"{best}/256"]]
    assert decision.method == Method(best, 256)
    assert decision.reason == "density at most 1/8: sparse wins in float32"


@pytest.mark.parametrize(("n_in", "n_out"), [(1024, 10), (10, 1024)])
def test_a_narrow_junction_is_in_doubt_at_any_density(
    n_in: int, n_out: int, raced: list[list[str]]
) -> None:
    # few edges, but as many numbers to move as in a junction of far more work
    pattern = nearest(n_in, n_out, fan_in=max(1, n_in // 8))
    assert forward(pattern, 128).reason.startswith("less than")
    assert not raced
    assert forward(pattern, 256).method == DENSE
    assert len(raced) == 2


@pytest.mark.parametrize("winner", ["sparse", "dense"])
def test_in_doubt_the_faster_wins(winner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def rigged(runs: Iterable[tuple[str, object]]) -> dict[str, float]:
        return {name: 1.0 if (name == "dense") == (winner == "dense") else 2.0 for name, _ in runs}

    monkeypatch.setattr(planner, "race", rigged)
    decision = forward(HALF, BATCH)
    assert (decision.method == DENSE) == (winner == "dense")
    assert decision.reason == "measured with 1 thread"
    assert len(decision.seconds) == 2


def test_a_close_race_leaves_the_favourite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        planner, "race", lambda runs: {name: 1 - 0.01 * i for i, (name, _) in enumerate(runs)}
    )
    decision = forward(nearest(256, 256, density=1 / 2), BATCH)
    assert decision.method != DENSE


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(
    ("dtype", "density", "batch", "has_amx", "dense"),
    [
        (torch.float32, 1 / 2, 1024, True, False),
        (torch.float32, 1.0, 1024, True, True),
        (torch.float32, 1.0, 32, True, False),
        (torch.bfloat16, 1 / 8, 1024, True, True),
        (torch.bfloat16, 1 / 8, 1024, False, False),
        (torch.bfloat16, 1 / 2, 1024, False, True),
    ],
)
def test_deterministic_algorithms_measure_nothing(
    dtype: torch.dtype,
    density: float,
    batch: int,
    has_amx: bool,
    dense: bool,
    raced: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    decision = forward(random_blocks(256, 256, density), batch, dtype)
    assert (decision.method == DENSE) is dense
    assert decision.reason.startswith("deterministic algorithms: dense from density")
    assert not raced


def test_modes(raced: list[list[str]]) -> None:
    with planner.use("dense"):
        assert forward(HALF, 1) == Decision(DENSE, "planner.use('dense')")
        with planner.use("sparse"):
            assert forward(HALF, BATCH).method == Method(cpu.active_instruction_set())
        assert forward(HALF, 1).method == DENSE
    assert not raced
    message = r"^unknown mode 'fast'; known ones: measured, sparse, dense$"
    with pytest.raises(ValueError, match=message), planner.use("fast"):  # type: ignore[arg-type]
        pass


def test_a_named_instruction_set_is_not_planned_around() -> None:
    case = small_integers(random_blocks(13, 11, 0.4), 5, torch.float32)
    with planner.use("dense"), cpu.use_instruction_set("scalar"):
        assert_exact(case, cpu)
    assert not case.pattern.plan("methods", dict)


@pytest.mark.parametrize("slower", ["grad_input", "grad_weight"])
def test_backward_computes_each_gradient_by_its_own_method(
    slower: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(function: planner.Function, *_: object) -> Method:
        return DENSE if function.name == slower else Method(cpu.active_instruction_set(), 64)

    monkeypatch.setattr(planner, "choose", choose)
    assert_exact(small_integers(HALF, 40, torch.float32), cpu)


def test_tuning_does_not_depend_on_threads(raced: list[list[str]]) -> None:
    inputs = normals(HALF, BATCH, torch.float32)
    arguments = (inputs.x, inputs.weight, inputs.bias, HALF)
    case = Case(cpu.FORWARD, HALF, BATCH, torch.float32)
    for threads in (1, 2):
        planner.decide(case, threads, arguments)
    best = cpu.active_instruction_set()
    # the second decision knows the kernels' times and measures dense only
    assert [len(names) for names in raced] == [5, 2, 2]
    assert raced[1] == raced[2] == [f"{best}/256", "dense"]


def test_bfloat16_tries_kernels_with_and_without_dot_products(
    raced: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "active_instruction_set", lambda: "avx512_bf16")
    assert forward(HALF, BATCH, torch.bfloat16).method == DENSE
    assert raced[0] == ["avx512_bf16", "avx512"]
    assert raced[1][-1] == "avx512/256"


def test_large_batches_are_cut_for_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "TUNED_WORK", 1)
    batches = []

    def spied(method: Method, threads: int, x: torch.Tensor, *more: object) -> torch.Tensor:
        batches.append(x.shape[0])
        return x

    function = replace(cpu.FORWARD, sparse=spied, dense=lambda x, *more: spied(DENSE, 1, x))
    inputs = normals(HALF, 300, torch.float32)
    planner.decide(Case(function, HALF, 300, torch.float32), 1, (inputs.x, inputs.weight, None))
    # dense is then compared on all samples
    assert set(batches) == {256, 300}


def test_batches_count_as_powers_of_two(raced: list[list[str]]) -> None:
    quarter = nearest(256, 256, density=1 / 4)
    assert forward(quarter, 64).reason.startswith("less than")
    # 65 samples alone would be too little work
    assert forward(quarter, 65).reason == "measured with 1 thread"
    assert [planner.bucket(batch) for batch in (0, 1, 2, 3, 4, 5, 129)] == [-1, 0, 1, 2, 2, 3, 8]
    assert forward(nearest(2048, 2048, density=1 / 2), 0).reason.startswith("less than")
    key = Case(cpu.FORWARD, HALF, 100, torch.float32).key(2)
    assert key == (
        "forward 256 -> 256 1x1, clash_free blocked, 32768 edges in 128 slots, batch 128, "
        "float32, 2 threads"
    )


def test_a_method_is_looked_up_once_per_pattern(raced: list[list[str]]) -> None:
    pattern = nearest(256, 256, density=1 / 2, seed=1)
    case = normals(pattern, BATCH, torch.float32)
    for _ in range(3):
        cpu.forward(case.x, case.weight, case.bias, pattern)
    assert len(raced) == 2
    assert list(pattern.plan("methods", dict).values()) == [DENSE]


# --- the race


def test_race_keeps_the_least_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    first, second = clock.runner(9e-3, 3e-3, 1e-3, 2e-3), clock.runner(1e-3, 2e-3, 2e-3, 2e-3)
    assert race.race([("a", first), ("b", second)]) == pytest.approx({"a": 1e-3, "b": 2e-3})


def test_long_runs_are_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    asked: list[str] = []

    def entrants() -> Iterator[tuple[str, race.Run]]:
        for name in "abcd":
            # what an entrant takes to come is not held against the budget
            clock.now += 9.0
            asked.append(name)
            yield name, clock.runner(1.0)

    assert race.race(entrants()) == pytest.approx({"a": 1.0, "b": 1.0})
    assert race.race(entrants(), least_tried=3) == pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0})
    assert asked == ["a", "b", "a", "b", "c"]


def test_a_larger_budget_tries_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    runs = [(name, clock.runner(0.25, 0.125, 0.0625)) for name in "abc"]
    # a round of 0.75 s, then the least three, which five budgets allow and one does not
    assert race.race(runs, budget_s=0.5) == pytest.approx(dict.fromkeys("abc", 0.0625))
    assert clock.now == pytest.approx(0.75 + 0.375 + 0.1875 + 0.1875)


class Clock:
    """A clock that only runners move, each time by their next number of seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def runner(self, *seconds: float):  # type: ignore[no-untyped-def]
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


# --- what is remembered


def test_measurements_outlive_the_process(own_measurements: Path, raced: list[list[str]]) -> None:
    first = forward(HALF, BATCH)
    measurements._loaded.clear()
    assert forward(HALF, BATCH) == first
    assert len(raced) == 2
    content = json.loads(own_measurements.read_text())
    assert content["machine"] == measurements.machine()
    assert len(content["seconds"]) == 2
    measurements.forget()
    assert not own_measurements.exists()
    forward(HALF, BATCH)
    assert len(raced) == 4


def damage(content: str, how: str) -> str:
    record = json.loads(content)
    if how == "another machine":
        record["machine"]["processor"] = "another"
    elif how == "no table":
        record["seconds"] = [1]
    elif how == "no times":
        record["seconds"] = {key: {} for key in record["seconds"]}
    elif how == "text for a time":
        record["seconds"] = {key: {"dense": "fast"} for key in record["seconds"]}
    elif how == "unknown method":
        record["seconds"] = {key: {"avx9": 1.0} for key in record["seconds"]}
    return json.dumps(record)[: -5 if how == "cut" else None]


@pytest.mark.parametrize(
    "how", ["cut", "another machine", "no table", "no times", "text for a time", "unknown method"]
)
def test_a_damaged_or_foreign_file_counts_as_empty(
    how: str, own_measurements: Path, raced: list[list[str]]
) -> None:
    first = forward(HALF, BATCH)
    own_measurements.write_text(damage(own_measurements.read_text(), how))
    measurements._loaded.clear()
    assert forward(HALF, BATCH) == first
    assert len(raced) == 4


def test_other_processes_keep_what_they_wrote(own_measurements: Path) -> None:
    measurements.put("mine", {"a": 1.0})
    content = json.loads(own_measurements.read_text())
    content["seconds"]["theirs"] = {"b": 2.0}
    own_measurements.write_text(json.dumps(content))
    measurements.put("again mine", {"a": 3.0})
    assert set(json.loads(own_measurements.read_text())["seconds"]) == {
        "mine", "theirs", "again mine",
    }  # fmt: skip


def test_a_folder_that_cannot_be_written_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(measurements, "file", lambda: blocked / "planner.json")
    measurements.put("key", {"a": 1.0})
    assert measurements.get("key") == {"a": 1.0}


@pytest.mark.parametrize("library", ["pooch", "platformdirs"])
def test_without_the_library_that_knows_the_folder_nothing_is_kept(
    library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    for name in ("pooch", "pooch.utils", "platformdirs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    assert measurements.file() is None
    assert not measurements.is_kept()
    measurements.put("key", {"a": 1.0})
    assert measurements.get("key") == {"a": 1.0}
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["explain", "--n-in", "64", "--n-out", "64", "--density", "0.25"])
    assert capsys.readouterr().out.endswith(
        "\nmeasurements cannot be kept without pooch: every process measures anew; "
        "pip install pooch\n"
    )
    measurements.forget()
    assert measurements.get("key") is None


def test_the_file_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = measurements.file()
    assert path is not None
    assert path.parent.name == "planner"
    assert re.fullmatch(r"[0-9a-f]{16}\.json", path.name)


# --- explain


def test_explain_tells_method_reason_and_times(raced: list[list[str]]) -> None:
    layer = SparseLinear(256, 256, density=1 / 2, dtype=torch.bfloat16)
    threads = torch.get_num_threads()
    explained = dnc_sparse.explain(layer, BATCH, threads=2)
    assert torch.get_num_threads() == threads
    assert explained.dtype == torch.bfloat16
    assert list(explained.decisions) == ["forward", "grad_input", "grad_weight"]
    lines = str(explained).splitlines()
    assert lines[0].endswith("batch 128, bfloat16, 2 threads")
    assert lines[2].split(maxsplit=2) == ["forward", "dense", "measured with 2 threads"]
    assert sum("all threads, best of each method" in line for line in lines) == 3


def test_explain_of_a_rule(raced: list[list[str]]) -> None:
    text = str(dnc_sparse.explain(nearest(64, 64, density=1 / 4), 16))
    method = f"sparse, {cpu.active_instruction_set()}"
    assert [line.split("  ")[0] for line in text.splitlines()[1:]] == [
        "function", "forward", "grad_input", "grad_weight",
    ]  # fmt: skip
    assert text.count(method) == 3
    assert not raced


def test_explain_refuses() -> None:
    pattern = nearest(64, 64, density=1 / 4)
    message = r"^a batch of -1 with 1 threads cannot be explained; give a batch from 0 and threads"
    with pytest.raises(ValueError, match=message):
        dnc_sparse.explain(pattern, -1, threads=1)
    message = r"^the planner cannot run here: torch.float8_e5m2 is not among its dtypes"
    with pytest.raises(RuntimeError, match=message):
        dnc_sparse.explain(pattern, 16, torch.float8_e5m2)


def test_explains_what_float16_is_computed_in() -> None:
    text = str(dnc_sparse.explain(nearest(64, 64, density=1 / 4), 16, torch.float16, threads=1))
    assert text.splitlines()[0].endswith(
        ", batch 16, float16, 1 thread, computed in float32 and rounded once"
    )


def test_the_command_explains(capsys: pytest.CaptureFixture[str], raced: list[list[str]]) -> None:
    sizes = ["--n-in", "256", "--n-out", "256", "--density", "0.5", "--batch", "128"]
    for more, races in ([], 6), ([], 6), (["--again"], 12):
        with pytest.raises(SystemExit) as stop:
            main(["explain", *sizes, *more])
        assert stop.value.code == 0
        assert len(raced) == races
    out = capsys.readouterr().out
    assert "forward      dense   measured with" in out
    assert "planner.json" in out
    with pytest.raises(SystemExit) as stop:
        main(["explain", *sizes, "--dtype", "int8"])
    assert stop.value.code == 2
    assert (
        "unknown dtype 'int8'; choose among float32, float64, bfloat16" in capsys.readouterr().err
    )

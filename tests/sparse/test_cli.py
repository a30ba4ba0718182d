"""The `dnc-sparse` command: what it prints, writes, refuses and returns."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from sparse.small_runs import code

from dnc_sparse import cli, training
from dnc_sparse.cli import info, options

pytestmark = pytest.mark.usefixtures("wide")

PATTERN = ["pattern", "--n-in", "12", "--n-out", "8"]


def train(data: str, *more: str) -> int:
    return code(
        *("train", "--data", data, "--layers", "16,12,4", "--epochs", "2"), "--quiet", *more
    )


# --- the command itself


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("--help") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("demo", "advise", "front", "train", "compare", "info"))


@pytest.mark.parametrize(
    "command", ["demo", "advise", "front", "train", "compare", "pattern", "explain", "info"]
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(command, "-h") == 0
    assert f"dnc-sparse {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("--version") == 0
    assert re.fullmatch(r"dnc-sparse [\d.]+\S*\n", capsys.readouterr().out)


def test_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("info", "--colour") == 2
    assert "No such option: --colour" in capsys.readouterr().err


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert code(*PATTERN, "--fan-out", "9") == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: fan_out 9 of a 12 -> 8 junction must be above 0")
    assert shown.err.count("\n") == 1
    assert not shown.out


def test_a_giant_junction_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("pattern", "--n-in", "100000", "--n-out", "100000", "--density", "0.5") == 2
    shown = capsys.readouterr().err
    assert shown.startswith(
        "error: a 100000 -> 100000 junction with 5,000,000,000 edges would need 19 GiB for its "
    )
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "error: not enough memory"),
        (np._core._exceptions._ArrayMemoryError((2**30,), np.dtype(float)), "error: Unable to all"),
    ],
)
def test_too_little_memory_is_one_line(
    error: MemoryError,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("dnc_sparse.cli.pattern.nearest", fail)
    assert code(*PATTERN, "--fan-in", "3") == 2
    shown = capsys.readouterr().err
    assert shown.startswith(text)
    assert shown.count("\n") == 1


@pytest.mark.parametrize("option", ["--layers=64,0,64", "--density=1.5", "--fan-out=3"])
def test_networks_are_refused_before_data_are_loaded(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*arguments: object, **options: object) -> None:
        raise AssertionError("data are loaded")

    monkeypatch.setattr("dnc_sparse.experiment.load", load)
    for command in ("train", "compare"):
        arguments = ["--data", "morse-1.0", "--layers", "64,32,64", option]
        assert code(command, *arguments) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_explain_says_where_measurements_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    explain = ("explain", "--n-in", "64", "--n-out", "64", "--density", "0.25")
    for folder, text in (
        (tmp_path / "cache", "measurements are kept in {}\n"),
        # below a file nobody can write, not even root
        (tmp_path / "file", "measurements cannot be kept, as {} cannot be written: every process "),
    ):
        path = folder / "planner" / "0.json"
        monkeypatch.setattr("dnc_sparse.backends.measurements.file", lambda path=path: path)
        assert code(*explain) == 0
        assert "\n" + text.format(path) in capsys.readouterr().out


def test_traceback_on_demand() -> None:
    with pytest.raises(ValueError, match=r"^fan_out 9 of a 12 -> 8 junction"):
        cli.main(["--traceback", *PATTERN, "--fan-out", "9"])


def test_ctrl_c(
    data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_train_epoch", stop)
    assert train(data) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_ctrl_c_says_how_to_go_on(
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_train_epoch", stop)
    assert train(data, "--run-dir", str(tmp_path / "run")) == 130
    assert capsys.readouterr().err.startswith("stopped after 0 of 2 epochs; continue with resume=T")


# --- texts of options


def test_lists_and_blocks() -> None:
    assert options.numbers("800,100,10", "--layers", int) == (800, 100, 10)
    assert options.numbers("0.5", "--density", float) == (0.5,)
    assert options.block("4") == (4, 4)
    assert options.block("4x2") == (4, 2)
    assert options.block("auto") == "auto"
    assert options.pairs(["features=2000", "form=code"]) == {"features": 2000, "form": "code"}
    with pytest.raises(
        ValueError, match=r"^--layers takes numbers with commas between, such as 80"
    ):
        options.numbers("800;100", "--layers", int)
    message = r"^--block takes auto, one number or outputs x inputs, such as 4x2; got '{}'$"
    for text in ("4*4", "Auto", "8xauto"):
        with pytest.raises(ValueError, match=message.format(re.escape(text))):
            options.block(text)
    with pytest.raises(
        ValueError, match=r"^--data-option takes NAME=VALUE, such as features=2000;"
    ):
        options.pairs(["features"])


# --- train


def test_train_reports_seeds_and_writes_json(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    assert train(data, "--density", "0.5", "--seeds", "2", "--json", str(path)) == 0
    shown = capsys.readouterr().out
    assert "network 16-12-4: 120 edges of 240 (50 %), 136 parameters, blocks 1x1, 1x1" in shown
    assert re.search(r"2 seeds: test accuracy [\d.]+ ± [\d.]+ % \(mean, 95 % interval\)", shown)
    record = json.loads(path.read_text())
    assert record["network"] == {"edges": 120, "parameters": 136, "density": 0.5}
    assert [run["seed"] for run in record["runs"]] == [0, 1]
    assert [len(run["epochs"]) for run in record["runs"]] == [2, 2]
    mean = sum(run["test_accuracy"] for run in record["runs"]) / 2
    assert record["test_accuracy"]["mean"] == pytest.approx(mean)
    # again: the same figures
    assert train(data, "--density", "0.5", "--seeds", "2", "--json", str(path)) == 0
    assert json.loads(path.read_text())["test_accuracy"] == record["test_accuracy"]


def test_train_has_the_blocks_that_suit_the_sizes(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    wide = ("--layers", "64,64,44,4", "--density", "0.5", "--json", str(path))
    for more, blocks, block in (
        ((), "8x8, 4x4, 1x1", "auto"),
        (("--block", "1"), "1x1, 1x1, 1x1", [1, 1]),
        (("--banks", "4"), "1x1, 1x1, 1x1", [1, 1]),
    ):
        assert train(data, *wide, *more) == 0
        assert f"parameters, blocks {blocks}\n" in capsys.readouterr().out
        assert json.loads(path.read_text())["version"]["block"] == block


def test_train_is_dense_by_default(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(data) == 0
    assert "240 edges of 240 (100 %)" in capsys.readouterr().out


def test_train_joins_validation(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(data, "--join-validation") == 2
    assert "clusters has no validation split to train on" in capsys.readouterr().err
    morse = ["--data", "morse-1.0", "--data-option", "samples_per_class=14", "--epochs", "1"]
    arguments = ["train", *morse, "--layers", "64,8,64", "--join-validation", "--threads", "1"]
    assert code(*arguments) == 0
    assert "768 train" in capsys.readouterr().out


def test_train_with_fan_out_banks_and_block(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--fan-out", "6,4", "--family", "clash_free", "--banks", "2", "--block", "2x2")
    assert train(data, *more) == 0
    assert "144 edges of 240" in capsys.readouterr().out


def test_train_resumes(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "runs")
    assert train(data, "--run-dir", folder) == 0
    assert (tmp_path / "runs/seed-0/weights.safetensors").exists()
    assert train(data, "--run-dir", folder) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert train(data, "--run-dir", folder, "--resume", "--seeds", "2", "--epochs", "3") == 0
    assert (tmp_path / "runs/seed-1/history.jsonl").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--resume"], "--resume needs --run-dir, the folder of the runs to continue"),
        (["--recipe", "soup"], "unknown recipe 'soup'; known recipes: paper, morse"),
        (["--density", "0.5", "--fan-out", "2,2"], "give density or fan_out, not both"),
        (["--layers", "8,4"], "'clusters' has 12 features and cannot be padded to 8"),
        (["--layers", "12,x"], "--layers takes numbers with commas between, such as 800,100,10"),
        (["--data", "mnits"], "unknown data set 'mnits'; known: morse, mnist"),
        (["--epochs", "0"], "epochs must be at least 1, got 0"),
    ],
)
def test_train_refuses(
    data: str, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, *more) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--density", "0.25"], "density 0.5, now 0.25"),
        ([], "density 0.5, now 1"),
        (["--density", "0.5", "--layers", "16,24,4"], "layers 16-12-4, now 16-24-4"),
        (["--density", "0.5", "--layers", "16,12,12,4"], "layers 16-12-4, now 16-12-12-4"),
    ],
)
def test_train_resumes_no_other_network(
    data: str, more: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    assert train(data, "--run-dir", folder, "--density", "0.5") == 0
    capsys.readouterr()
    assert train(data, "--run-dir", folder, "--resume", *more) == 2
    assert capsys.readouterr().err == (
        f"error: {folder}/seed-0/checkpoint.pt was written with {text}; resume with the same "
        f"settings, or start in another folder\n"
    )


def test_train_resumes_no_other_pattern(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    shared = ("--run-dir", folder, "--density", "0.5")
    assert train(data, *shared, "--family", "regular") == 0
    capsys.readouterr()
    assert train(data, *shared, "--family", "random", "--resume") == 2
    assert re.match(
        r"^error: \S+checkpoint.pt was written with another pattern in junction 0: regular of 96 "
        r"edges, block 1x1, seed \d+, now random of 96 edges, block 1x1, seed \d+; resume with",
        capsys.readouterr().err,
    )


def test_train_refuses_a_single_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y, file = np.eye(16, dtype=np.float32), np.zeros(16, int), tmp_path / "one.npz"
    np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)
    for command in ("train", "compare"):
        out = ("--out", str(tmp_path / "out")) if command == "compare" else ()
        assert code(command, "--data", str(file), "--layers", "16,32,1", *out) == 2
        message = "error: all 16 training samples of one are of class 0, so every network that"
        assert capsys.readouterr().err.startswith(message)


def test_train_refuses_labels_with_gaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y, file = np.eye(4, dtype=np.float32), np.array([0, 7, 0, 7]), tmp_path / "gap.npz"
    np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)
    assert code("train", "--data", str(file), "--layers", "4,8") == 2
    message = "error: gap has no training sample of 6 of its 8 classes: 1, 2, 3, ...; number the"
    assert capsys.readouterr().err.startswith(message)


# --- pattern


def test_pattern_describes_checks_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "pattern.png"
    more = ["--fan-in", "6", "--family", "clash_free", "--banks", "3", "--dither", "--kind", "2"]
    assert (
        code(*PATTERN, *more, "--bank-map", "interleaved", "--check", "--plot", str(picture)) == 0
    )
    shown = capsys.readouterr().out
    assert shown.startswith("Pattern(clash_free, 12 -> 8, 48 edges, density 0.5, fan_in 6, fan_out")
    assert re.search(r"clashes +0\n", shown)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_pattern_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert code(*PATTERN, "--density", "0.25", "--json", "--seed", "4") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["edges"], record["regular"], record["spec"]["seed"]) == (24, True, 4)


def test_pattern_check_fails_on_uneven_degrees(capsys: pytest.CaptureFixture[str]) -> None:
    assert code(*PATTERN, "--density", "0.3", "--family", "random", "--check") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: check failed: degrees are not all equal")


def test_pattern_warns_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    # pytest turns warnings into errors before they are shown; the command shows them
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert code(*PATTERN, "--density", "0.01") == 0
    error = capsys.readouterr().err
    assert error.startswith("warning: density 0.01 of a 12 -> 8 junction becomes")
    assert error.count("\n") == 1


# --- info


def test_info_shows_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("info") == 0
    shown = capsys.readouterr().out
    assert re.search(r"reference +usable", shown)
    assert "OpenMP runtimes loaded" in shown
    assert re.search(r"morse +generated", shown)


def test_info_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("info", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["backends"]["reference"] is None
    assert {"machine", "instruction_sets", "openmp", "openmp_conflict", "data"} <= record.keys()


def test_info_tells_of_a_missing_data_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNC_DATA", "nowhere")
    assert code("info") == 0
    assert "data folder nowhere (DNC_DATA)" in capsys.readouterr().out
    assert code("info", "--data-dir", "nowhere", "--json") == 0
    where = {row["name"]: row["where"] for row in json.loads(capsys.readouterr().out)["data"]}
    assert where["mnist"].startswith("data folder nowhere (data_dir) does not exist; give the")
    assert where["morse"] == "generated"


def test_info_gives_reasons_and_warns_of_two_runtimes(capsys: pytest.CaptureFixture[str]) -> None:
    record = {
        "machine": {"torch": "2.13.0", "commit": None},
        "backends": {"cpu": "it was not built"},
        "instruction_sets": {"avx512": "this processor lacks it", "avx2": None},
        "active_instruction_set": "avx2",
        "matrix_units": {"amx": "this processor lacks AMX"},
        "openmp": ["/a/libgomp.so.1", "/b/libomp.so"],
        "openmp_conflict": "2 OpenMP runtimes are loaded",
        "data": [],
    }
    info.show(record, options.console())
    shown = capsys.readouterr().out
    assert re.search(r"torch +2\.13\.0\n", shown)
    # an installed package has none
    assert "commit" not in shown
    assert "no: it was not built" in shown
    assert "no: this processor lacks it" in shown
    assert re.search(r"amx +no: this processor lacks AMX", shown)
    assert re.search(r"avx2 +in use", shown)
    assert "warning: 2 OpenMP runtimes are loaded" in shown

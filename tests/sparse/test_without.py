"""Commands and imports without libraries that not everybody has: extras, and torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

SEARCH_EXTRA = "pip install 'dnc-sparse[search]'"
DRAWING = "error: drawing{} needs matplotlib: pip install 'dnc-sparse[plot]'\n"
# as where they are not installed
BLOCK = "import sys; sys.modules.update(dict.fromkeys({libraries!r}))\n"
RUN = """
import contextlib, importlib, io, json
results = []
for program, arguments in {lines!r}:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            importlib.import_module(program + ".cli").main(arguments)
        except SystemExit as exit:
            code = exit.code
    results.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(results))
"""
SEARCH_COMMANDS = ("run", "worker", "status", "report", "rescore", "export", "transfer")


def without(libraries: Sequence[str], code: str, folder: Path) -> str:
    """Run code in a process that lacks the libraries; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCK.format(libraries=list(libraries)) + code],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(
    libraries: Sequence[str], lines: Sequence[tuple[str, list[str]]], folder: Path
) -> list[tuple[int, str, str]]:
    """Run command lines in one process without the libraries; codes, outputs and errors."""
    results: list[Any] = json.loads(without(libraries, RUN.format(lines=list(lines)), folder))
    return [(code, out, err) for code, out, err in results]


@pytest.mark.parametrize(
    ("library", "way"), [("optuna", SEARCH_EXTRA), ("torch", "pip install torch")]
)
def test_every_command_of_the_search_without_what_it_needs(
    library: str, way: str, tmp_path: Path
) -> None:
    lines = [("dnc_search", [name, *more]) for name in SEARCH_COMMANDS for more in ([], ["--help"])]
    lines += [("dnc_search", []), ("dnc_search", ["--help"])]
    for result in run([library], lines, tmp_path):
        assert result == (2, "", f"error: dnc-search needs {library}: {way}\n")


def test_versions_need_nothing(tmp_path: Path) -> None:
    lines = [(name, ["--version"]) for name in ("dnc_sparse", "dnc_search", "dnc_hw")]
    for (code, out, err), (name, _) in zip(
        run(["optuna", "torch", "joblib"], lines, tmp_path), lines, strict=True
    ):
        assert (code, err) == (0, "")
        assert out.startswith(f"{name.replace('_', '-')} 0.1.0")


@pytest.mark.parametrize("package", ["dnc_sparse", "dnc_search", "dnc_hw"])
def test_every_program_runs_as_a_module(package: str, tmp_path: Path) -> None:
    code = f"""
import runpy
sys.argv = ["-", "--version"]
runpy.run_module({package!r}, run_name="__main__")
"""
    shown = without(["optuna", "torch"], code, tmp_path)
    assert shown.startswith(f"{package.replace('_', '-')} 0.1.0")


def test_a_broken_library_says_what_broke(tmp_path: Path) -> None:
    (tmp_path / "optuna.py").write_text("raise ImportError('libfoo.so: cannot open')\n")
    code = "import sys; sys.path.insert(0, ''); from dnc_search.cli import main; main(['status'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr == "error: dnc-search cannot start: libfoo.so: cannot open\n"


JUNCTION = ["--n-in", "8", "--n-out", "8", "--density", "0.5"]
REFUSED: dict[str, list[tuple[str, list[str], str]]] = {
    "matplotlib": [
        ("dnc_sparse", ["pattern", *JUNCTION, "--plot", "p.png"], DRAWING.format("")),
        ("dnc_sparse", ["bench", "--suite", "cpu", "--plot", "d"], DRAWING.format("")),
        ("dnc_hw", ["schedule", "mnist-12bit", "--plot", "p.png"], DRAWING.format("")),
        ("dnc_hw", ["simulate", "mnist-12bit", "--plot", "p.png"], DRAWING.format("")),
    ],
    "joblib": [
        (
            *("dnc_hw", ["sweep", "mnist-12bit", "--out", "s", "--jobs", "2"]),
            "error: a sweep in several processes needs joblib: pip install 'dnc-sparse[hw]', "
            "or --jobs 1\n",
        ),
    ],
}


@pytest.mark.parametrize("library", REFUSED)
def test_a_command_without_an_extra(library: str, tmp_path: Path) -> None:
    cases = REFUSED[library]
    results = run([library], [case[:2] for case in cases], tmp_path)
    for (code, out, err), (_, _, line) in zip(results, cases, strict=True):
        assert (code, err) == (2, line)
        assert "written" not in out
    assert list(tmp_path.iterdir()) == []


def test_every_program_lists_its_commands_without_any_extra(tmp_path: Path) -> None:
    extras = ["matplotlib", "joblib", "jinja2", "psycopg", "onnxscript", "peft", "triton"]
    lines = [(name, ["--help"]) for name in ("dnc_sparse", "dnc_search", "dnc_hw")]
    lines.append(("dnc_sparse", ["info"]))
    *helps, info = run(extras, lines, tmp_path)
    for code, out, err in helps:
        assert (code, err) == (0, "")
        assert "Usage:" in out
    assert info[0] == 0
    assert "no: Triton is not installed; pip install 'dnc-sparse[gpu]' (Linux only)" in info[1]


PATTERNS = """
import numpy as np
from dnc_sparse.patterns import clash_free, cyclic, nearest, random, regular
assert regular(12, 8, fan_out=2, seed=0).fan_in == 3
drawn = clash_free(12, 8, fan_out=2, banks=3, seed=0)
assert cyclic(12, 8, fan_out=2, banks=3, seed=0).n_edges == drawn.n_edges == 24
assert drawn.mask().sum() == 24
assert nearest(64, 32, density=0.25).density == 0.25
import dnc_sparse
assert dnc_sparse.Pattern is type(drawn)
assert "torch" not in [name for name, module in sys.modules.items() if module]
"""


def test_patterns_are_drawn_without_torch(tmp_path: Path) -> None:
    without(["torch"], PATTERNS, tmp_path)


def test_a_simulation_is_the_same_without_torch(tmp_path: Path) -> None:
    code = """
import json
from dnc_hw import machine_from, simulate
from dnc_hw.description import describe
from dnc_sparse.data import load
data = load("morse-1.0", samples_per_class=7)
machine = machine_from({**describe("mnist-12bit"), "layers": (64, 64, 64), "fan_out": (8, 8),
                        "lanes": (32, 32)})
report = simulate(machine, data.train)
print(type(data.train.x).__module__)
print(report.winners.tolist(), report.clocks, report.parameters.weights[0].tolist())
"""
    array, *there = without(["torch"], code, tmp_path).splitlines()
    tensor, *here = without([], code, tmp_path).splitlines()
    assert (array, tensor) == ("numpy", "torch")
    assert there == here


def test_commands_of_the_simulator_without_torch(tmp_path: Path) -> None:
    data = ["--data", "morse-1.0", "--data-option", "samples_per_class=7"]
    lines = [
        ("dnc_hw", ["--help"]),
        ("dnc_hw", ["resources", "mnist-12bit", "--json", "r.json"]),
        ("dnc_hw", ["schedule", "mnist-12bit"]),
        ("dnc_hw", ["trace", "mnist-12bit", "--csv", "t.csv"]),
        ("dnc_hw", ["simulate", "m.toml", *data, "--json", "s.json", "--save", "w.npz"]),
        ("dnc_hw", ["sweep", "m.toml", *data, "--out", "sweep"]),
    ]
    (tmp_path / "m.toml").write_text(
        "layers = [64, 64, 64]\nfan_out = [8, 8]\nlanes = [32, 32]\n"
        "[number]\ninteger_bits = 3\nfraction_bits = 8\n"
    )
    for code, _, err in run(["torch"], lines, tmp_path):
        assert code == 0, err
    assert json.loads((tmp_path / "s.json").read_text())["training"]["inputs"] == 320
    assert (tmp_path / "sweep" / "results.csv").is_file()


def test_layers_without_torch_say_so(tmp_path: Path) -> None:
    code = """
import dnc_sparse
for name in ("SparseLinear", "SparseMLP", "sparsify", "sparsify_like", "densify", "explain"):
    try:
        getattr(dnc_sparse, name)
    except ImportError as error:
        print(error)
print(hasattr(dnc_sparse, "SparseConv9d"))
"""
    *said, other = without(["torch"], code, tmp_path).splitlines()
    assert other == "False"
    assert [line.partition(", which cannot be imported here (")[0] for line in said] == [
        f"dnc_sparse.{name} needs torch"
        for name in ("SparseLinear", "SparseMLP", "sparsify", "sparsify_like", "densify", "explain")
    ]
    assert all(line.endswith("dnc_sparse.patterns and dnc_hw work without") for line in said)


def test_the_import_alone_registers_the_operators(tmp_path: Path) -> None:
    code = "import dnc_sparse, torch; print(torch.ops.dnc_sparse.forward)"
    assert without([], code, tmp_path) == "dnc_sparse.forward\n"

"""Where results go is checked before the work, in every command of all three programs."""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.utils import get_params_from_function

import dnc_hw
import dnc_search
import dnc_sparse
from dnc_sparse.cli import outputs

PROGRAMS = ("dnc_sparse", "dnc_hw", "dnc_search")

# command, option and what is wrong with its path: whatever else the command needs comes later
FILES = [
    ("dnc_sparse", "train --data morse-1.0 --layers 64,64", "--json"),
    ("dnc_sparse", "advise nowhere.py:build", "--json"),
    ("dnc_sparse", "bench", "--json"),
    ("dnc_sparse", "bench --suite cpu", "--json"),
    ("dnc_hw", "simulate", "--json"),
    ("dnc_hw", "simulate", "--save"),
    ("dnc_hw", "trace", "--vcd"),
    ("dnc_hw", "trace", "--csv"),
    ("dnc_hw", "resources", "--json"),
    ("dnc_hw", "plan", "--json"),
    ("dnc_hw", "validate", "--json"),
    ("dnc_search", "report --out nowhere", "--file"),
]
PICTURES = [
    ("dnc_sparse", "pattern --n-in 8 --n-out 8 --fan-in 2", "--plot"),
    ("dnc_hw", "simulate", "--plot"),
    ("dnc_hw", "schedule", "--plot"),
]
FOLDERS = [
    ("dnc_sparse", "train --data morse-1.0 --layers 64,64", "--run-dir"),
    ("dnc_sparse", "bench --suite cpu", "--plot"),
    ("dnc_sparse", "compare --data morse-1.0 --layers 64,64,64", "--out"),
    ("dnc_sparse", "demo", "--out"),
    ("dnc_sparse", "front --data morse-1.0", "--out"),
    ("dnc_hw", "sweep small", "--out"),
    ("dnc_search", "run --data morse-1.0", "--out"),
    ("dnc_search", "transfer --data morse-1.0 --from nowhere", "--out"),
    ("dnc_search", "export --out nowhere", "--to"),
]


def refusal(
    capsys: pytest.CaptureFixture[str], program: str, command: str, option: str, path: Path
) -> str:
    """Run a command that must refuse the path and return what it says."""
    with pytest.raises(SystemExit) as stop:
        import_module(f"{program}.cli").main([*command.split(), option, str(path)])
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


@pytest.mark.parametrize(("program", "command", "option"), [*FILES, *PICTURES])
def test_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, command: str, option: str
) -> None:
    if option == "--plot":
        pytest.importorskip("matplotlib")
    blocked = tmp_path / "blocked"
    blocked.write_text("mine")
    for path, reason in (
        (tmp_path, "is a folder; name a file in it"),
        (Path("/dev/null"), "is a device; name a file that can be replaced"),
        (blocked / "x.png", "cannot be written: (Not a directory|File exists); name another place"),
        (tmp_path / ("x" * 260), "cannot be written: File name too long; name another place"),
    ):
        error = refusal(capsys, program, command, option, path)
        assert re.fullmatch(rf"error: {option} {re.escape(str(path))} {reason}\n", error)
    assert blocked.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["blocked"]


@pytest.mark.parametrize(("program", "command", "option"), PICTURES)
def test_pictures_have_a_suffix_that_can_be_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, command: str, option: str
) -> None:
    pytest.importorskip("matplotlib")
    for name, seen in (("x.bmp", "the suffix '.bmp'"), ("x", "no suffix")):
        error = refusal(capsys, program, command, option, tmp_path / name)
        text = rf"error: --plot \S*/{name} has {seen}, which says the kind of picture; choose among"
        assert re.match(text, error)
        assert ".png, " in error


@pytest.mark.parametrize(("program", "command", "option"), FOLDERS)
def test_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, command: str, option: str
) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    error = refusal(capsys, program, command, option, path)
    text = rf"error: cannot use {path} as a folder: it is a file; name another folder\n"
    assert re.fullmatch(text, error)
    error = refusal(capsys, program, command, option, Path("/proc/none"))
    text = "error: cannot use /proc/none as a folder: No such file or directory; name another"
    assert error.startswith(text)


def test_folders_on_a_full_or_read_only_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(outputs, "TemporaryFile", full)
    error = refusal(capsys, "dnc_sparse", "demo", "--out", tmp_path)
    text = f"error: --out {tmp_path} cannot be written into: Read-only file system; name another"
    assert error.startswith(text)


def test_missing_folders_are_made_and_old_files_stay(tmp_path: Path) -> None:
    parameter: Any = SimpleNamespace(opts=["--json"])
    path = tmp_path / "a" / "b" / "x.json"
    assert outputs.to_file(parameter, path) == path
    assert list(path.parent.iterdir()) == []
    path.write_text("before")
    assert outputs.to_file(parameter, path) == path
    assert path.read_text() == "before"
    assert outputs.to_folder(parameter, tmp_path / "c") == tmp_path / "c"
    assert outputs.to_file(parameter, None) is None


def paths_of(program: str) -> Iterator[tuple[str, str]]:
    """Every option that is a path, with its command."""
    for command in import_module(f"{program}.cli.app").app.registered_commands:
        for parameter in get_params_from_function(command.callback).values():
            if parameter.annotation in (Path, Path | None):
                given = getattr(parameter.default, "param_decls", None) or [""]
                option = given[0] or "--" + parameter.name.replace("_", "-")
                yield command.callback.__name__, option


# paths that are read, and folders of searches and data that must be there
READ = {"--data-dir", "--load", "--list", "--from", "--data", "--space-file"}
READ_OUT = {"worker", "status", "report", "rescore", "export"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_path_that_is_written_is_in_the_tables(program: str) -> None:
    """A new option of a path must be checked, and tried above."""
    tried = {
        (of, command.split()[0], option)
        for of, command, option in [*FILES, *PICTURES, *FOLDERS]
        if of == program
    }
    found = {
        (program, name, option)
        for name, option in paths_of(program)
        if option not in READ
        and not (option == "--out" and program == "dnc_search" and name in READ_OUT)
    }
    assert found == tried


# --- folders of other programs


@pytest.mark.parametrize(
    ("program", "mark"),
    [
        ("dnc-sparse compare", "comparison.json"),
        ("dnc-sparse train", "seed-0/config.json"),
        ("dnc-hw sweep", "results.csv"),
        ("dnc-search", "ledger.db"),
    ],
)
def test_a_folder_of_another_program_is_refused(tmp_path: Path, program: str, mark: str) -> None:
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()
    for other in outputs.MARKS:
        if other == program:
            outputs.refuse_others(tmp_path, program)
            continue
        message = rf"^{tmp_path} holds results of {program} \(\S*{Path(mark).name}\); name another "
        with pytest.raises(RuntimeError, match=message + rf"folder for those of {other}$"):
            outputs.refuse_others(tmp_path, other)


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("dnc_sparse", "compare --data morse-1.0 --layers 64,64,64 --out"),
        ("dnc_sparse", "train --data morse-1.0 --layers 64,64 --run-dir"),
        ("dnc_search", "run --data morse-1.0 --out"),
        ("dnc_search", "transfer --data morse-1.0 --from nowhere --out"),
    ],
)
def test_commands_look_at_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, command: str
) -> None:
    (tmp_path / "results.csv").touch()
    *command_, option = command.split()
    error = refusal(capsys, program, " ".join(command_), option, tmp_path)
    assert error.startswith(f"error: {tmp_path} holds results of dnc-hw sweep (results.csv); name")


# --- text with brackets


def calls_in(package: Any) -> Iterator[tuple[str, str, ast.Call]]:
    for path in sorted(Path(inspect.getfile(package)).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else None
                yield path.name, name or getattr(node.func, "id", ""), node


@pytest.mark.parametrize("package", [dnc_sparse, dnc_hw, dnc_search])
def test_brackets_are_text_on_every_console(package: Any) -> None:
    """Rich takes [plot] for markup and drops it unless the console is told."""
    wrong = []
    for file, name, call in calls_in(package):
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name in ("Console", "TextColumn") and given.get("markup") != "False":
            wrong.append((file, call.lineno, name))
        # it has no argument for it
        if name == "status" and call.args and isinstance(call.args[0], ast.JoinedStr):
            holds_text = [part for part in ast.walk(call.args[0]) if isinstance(part, ast.Name)]
            wrong += [(file, call.lineno, part.id) for part in holds_text if part.id == "path"]
    assert wrong == []


def test_brackets_come_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "[red]x.json"
    with pytest.raises(SystemExit) as stop:
        dnc_hw_main(
            ["plan", "small", "--json", str(tmp_path / "[plot]" / path.name), "--limit", "1"]
        )
    assert stop.value.code in (None, 0)
    assert (tmp_path / "[plot]" / path.name).exists()
    error = refusal(capsys_cleared(capsys), "dnc_sparse", "demo", "--out", file_of(tmp_path))
    assert "[plot] as a folder" in error


def dnc_hw_main(arguments: list[str]) -> None:
    import_module("dnc_hw.cli").main(arguments)


def capsys_cleared(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    capsys.readouterr()
    return capsys


def file_of(folder: Path) -> Path:
    path = folder / "a [plot]"
    path.touch()
    return path

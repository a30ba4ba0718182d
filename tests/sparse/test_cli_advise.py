"""`dnc-sparse advise`: models of the user's own files, what is printed, written and refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from sparse.small_runs import code
from torch import nn

from dnc_sparse.advice import timing
from dnc_sparse.cli import advise as command
from dnc_sparse.cli import model_file

MODEL = """
import torch
from torch import nn
from beside import WIDTH

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 64))

def pair():
    return build(), torch.randn(4, 64)

def named():
    return build(), {"input": torch.randn(4, 8, 8)}

def words():
    return nn.Sequential(nn.Embedding(10, 64), nn.Linear(64, 64))

def convolution():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(72, 64))

def sizes():
    return 64, 32

def text():
    return "a model"

def needs(width):
    return nn.Linear(width, width)

def fails():
    raise KeyError("weights.pt")

def refuses():
    raise ValueError("no such preset")

number = 3
"""


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run be timed once: a step of 10 s, dense layers of 1 s, sparse ones of 0.5 s."""

    def interleaved(runs: Sequence[Callable[[], object]], *_: Any, **__: Any) -> list[float]:
        for run in runs:
            run()
        return [10.0, 0.0, 0.0] + [1.0, 0.5] * ((len(runs) - 3) // 2)

    monkeypatch.setattr(timing, "interleaved", interleaved)


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "beside.py").write_text("WIDTH = 128\n")
    return str(tmp_path / "model.py")


def advise(*arguments: str) -> int:
    return code("advise", *arguments, "--block", "8")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_what_is_printed_and_written(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "advice.json"
    assert advise(f"{file}:pair", "--threads", "1", "--json", str(out)) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == ("layer  inputs -> outputs  samples  dense, us  0.125 8x8, us  verdict")
    assert lines[1] == ("1      64 -> 128                4  1,000,000        500,000  gains 2.0x")
    assert "density 0.125 8x8: a step of 9,000 ms expected, 1.11 times as fast" in shown.out
    assert "    model = sparsify(model, density=0.125, block=8)" in lines
    assert not shown.err
    record = json.loads(out.read_text())
    assert record["step_s"] == 10.0
    assert record["plans"][0]["replaced"] == ["1", "3"]
    assert record["machine"]["threads"] == 1


@pytest.mark.parametrize(
    ("arguments", "samples"),
    [
        (("build",), 256),
        (("build", "--batch", "3"), 3),
        (("build", "--input", "5x8x8"), 5),
        (("named",), 4),
        (("words", "--tokens", "2x7"), 14),
        (("convolution", "--input", "2x3x5x5"), 2),
    ],
)
def test_examples(file: str, arguments: tuple[str, ...], samples: int, tmp_path: Path) -> None:
    out = tmp_path / "advice.json"
    name, *options = arguments
    assert advise(f"{file}:{name}", *options, "--json", str(out)) == 0
    assert json.loads(out.read_text())["layers"][-1]["samples"] == samples


def test_a_model_of_a_module(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "networks.py").write_text("from torch import nn\ndef make(): return nn.Linear(2, 3)")
    monkeypatch.chdir(tmp_path)
    model, example = model_file.build("a_package.networks:make")
    assert isinstance(model, nn.Linear)
    assert example is None


def test_the_path_of_modules_stays(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    before = list(sys.path)
    model_file.build(f"{file}:build")
    with pytest.raises(ValueError, match=r":fails failed: KeyError: 'weights.pt'; it is called"):
        model_file.build(f"{file}:fails")
    assert sys.path == before


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "{folder}/none.py:build",
            "the file of the model is not there: {folder}/none.py; name one",
        ),
        ("{folder}/model.py", "a model is named as path/to/file.py:function or package.module:fun"),
        ("build", "a model is named as path/to/file.py:function or package.module:function, got"),
        (
            "{folder}/model.py:other",
            "{folder}/model.py:other: other is no such function; there: bu",
        ),
        ("{folder}/model.py:number", "{folder}/model.py:number: number is a int; there: build, pa"),
        ("no.such.module:build", "no.such.module does not run: ModuleNotFoundError: No module nam"),
        ("{folder}/broken.py:build", "broken.py does not run: ZeroDivisionError: division by zero"),
        ("{folder}/model.py:needs", "{folder}/model.py:needs failed: TypeError: needs() missing 1"),
        ("{folder}/model.py:fails", "{folder}/model.py:fails failed: KeyError: 'weights.pt'; it i"),
        ("{folder}/model.py:refuses", "{folder}/model.py:refuses failed: ValueError: no such pres"),
        ("{folder}/model.py:text", "{folder}/model.py:text returned a str, which is no nn.Module;"),
        ("{folder}/model.py:sizes", "{folder}/model.py:sizes returned a int, which is no nn.Modul"),
    ],
)
def test_targets_that_are_no_model(
    target: str, message: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    assert advise(target.format(folder=tmp_path)) == 2
    assert said(capsys).startswith(f"error: {message.format(folder=tmp_path)}")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "pair",
            ("--batch", "3"),
            "{file}:pair returns an example of its own, so --batch, --input",
        ),
        (
            "pair",
            ("--tokens", "2x3"),
            "{file}:pair returns an example of its own, so --batch, --inp",
        ),
        (
            "build",
            ("--batch", "3", "--input", "3x64"),
            "--batch, --input and --tokens say the same",
        ),
        ("build", ("--tokens", "2x3"), "--tokens is for models with an nn.Embedding; give --input"),
        (
            "build",
            ("--input", "3,64"),
            "--input takes sizes with x between, such as 8x128; got '3,",
        ),
        (
            "words",
            ("--tokens", "0x3"),
            "--tokens takes sizes with x between, such as 8x128; got '0",
        ),
        (
            "build",
            ("--input", "3x65"),
            "the model does not run on the example (RuntimeError: mat1 ",
        ),
        (
            "convolution",
            (),
            "{file}:convolution returns no example, and its first layer (Conv2d) do",
        ),
        (
            "words",
            (),
            "{file}:words returns no example, and its first layer (Embedding) does not t",
        ),
        ("build", ("--device", "mps"), "--device takes cpu or cuda; got 'mps'"),
        ("build", ("--device", "none"), "--device takes cpu or cuda; got 'none'"),
        ("build", ("--density", "half"), "--density takes numbers with commas between, such as"),
        ("build", ("--density", "0.5,2"), "density must lie in (0, 1], got 2"),
        (
            "build",
            ("--skip", "nothing"),
            "skip names no linear layer: 'nothing'; linear layers: 1,",
        ),
    ],
)
def test_options_that_do_not_fit(
    name: str,
    options: tuple[str, ...],
    message: str,
    file: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert advise(f"{file}:{name}", *options) == 2
    assert said(capsys).startswith(f"error: {message.format(file=file)}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert advise(f"{file}:build", "--device", "cuda") == 2
    assert said(capsys) == "error: --device cuda: torch finds no GPU here; use cpu\n"


def test_progress_on_a_terminal(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.Console, "is_terminal", True)
    assert advise(f"{file}:pair") == 0
    assert "timing layers" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert code("advise", "-h") == 0
    assert "dnc-sparse advise" in capsys.readouterr().out

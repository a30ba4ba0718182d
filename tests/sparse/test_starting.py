"""Ctrl-C in the first seconds of a program, while it imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dnc_sparse.starting import ctrl_c_ends

# a stand-in for the first library that takes long to import, which sends the signal to itself
SLOW = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(30)
"""


def started(folder: Path, *arguments: str, slow: str) -> subprocess.CompletedProcess[str]:
    """Start Python with a module that is interrupted while it is imported."""
    (folder / f"{slow}.py").write_text(SLOW)
    path = os.pathsep.join([str(folder), *sys.path])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )


@pytest.mark.parametrize("slow", ["scipy", "torch"])
@pytest.mark.parametrize("module", ["dnc_sparse", "dnc_search", "dnc_hw"])
def test_ctrl_c_ends_a_program_that_imports(module: str, slow: str, tmp_path: Path) -> None:
    ended = started(tmp_path, "-m", module, "--version", slow=slow)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("program", ["dnc-sparse", "dnc-search", "dnc-hw"])
def test_ctrl_c_ends_a_script_that_imports(program: str, tmp_path: Path) -> None:
    script = tmp_path / program
    package = program.replace("-", "_")
    script.write_text(f"from {package}.cli import main\nmain(['--version'])\n")
    ended = started(tmp_path, str(script), slow="torch")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_ends_a_program_that_imports_its_commands(tmp_path: Path) -> None:
    ended = started(tmp_path, "-m", "dnc_sparse", "--help", slow="typer")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("slow", ["scipy", "torch"])
def test_other_programs_get_their_keyboard_interrupt(slow: str, tmp_path: Path) -> None:
    code = "try:\n import dnc_sparse\nexcept KeyboardInterrupt:\n print('mine')"
    ended = started(tmp_path, "-c", code, slow=slow)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "mine\n", "")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_who_ignores_or_handles_ctrl_c_still_does(
    handler: signal.Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dnc-hw"])
    before = signal.signal(signal.SIGINT, handler)
    try:
        with ctrl_c_ends():
            assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("script", ["/usr/bin/dnc-search", "dnc-sparse"])
def test_ctrl_c_is_as_before_once_imports_are_done(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [script])
    before = signal.getsignal(signal.SIGINT)
    with ctrl_c_ends():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before

"""The documentation holds: its code runs and prints what it says, its commands and links exist.

Conventions of the pages: a `text` block right after a `python` block is what that block prints;
tables headed "what you write" quote errors and warnings.
"""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torchvision_ops import declare

from dnc_hw.cli.app import app as hw_app
from dnc_search.cli.app import app as search_app
from dnc_sparse.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))) if path.exists()]
NAMES = [path.name for path in PAGES]
if not PAGES:
    pytest.skip("the documentation is not beside these tests", allow_module_level=True)

# what the code of a page needs beyond the development environment
NEEDED = {
    "hugging-face.md": ("transformers", "accelerate", "peft"),
    "onnx.md": ("onnxscript", "onnxruntime"),
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ERROR_ROW = re.compile(r"^\| `(.+?)` \| (.+?) \| ", re.MULTILINE)
COMMANDS = {"dnc-sparse": app, "dnc-hw": hw_app, "dnc-search": search_app}
ERROR_HEADER = "| what you write | what it says |"


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Give the language and content of each fenced block, and what it is said to print."""
    text = page.read_text()
    for fence in FENCE.finditer(text):
        printed = FENCE.match(text, fence.end())
        follows = printed is not None and printed[1] == "text"
        yield fence[1], fence[2], printed[2] if printed and follows else ""


def error_rows(page: Path) -> list[tuple[str, str]]:
    """Give what is written and what is said in the rows of the page's table of errors."""
    _, header, table = page.read_text().partition(ERROR_HEADER)
    rows = ERROR_ROW.findall(table)
    assert len(rows) == len(re.findall(r"^\| `", table, re.MULTILINE))
    return rows if header else []


# torch's ONNX exporter pickles a deprecated class, peft asks transformers by a deprecated name
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_code_and_errors(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare()
    for package in NEEDED.get(page.name, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DNC_DATA", raising=False)
    # files this user downloaded before must not be found
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    namespace: dict[str, Any] = {"__name__": page.stem}
    for language, code, expected in blocks(page):
        if language != "python":
            continue
        out = StringIO()
        with redirect_stdout(out):
            exec(compile(code, str(page), "exec"), namespace)
        assert not expected or out.getvalue() == expected
    for code, message in error_rows(page):
        # warnings are errors here
        with pytest.raises((ValueError, TypeError, RuntimeError, OSError, UserWarning)) as caught:
            exec(compile(code, str(page), "exec"), namespace)
        said = " ".join(str(caught.value).split())
        assert all(part.strip() in said for part in message.split("..."))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_parse(page: Path) -> None:
    for language, text, _ in blocks(page):
        if language not in ("", "sh"):
            continue
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in COMMANDS:
                command = typer.main.get_group(COMMANDS[words[0]])
                # a wrong command, option or type of value raises
                with command.make_context(words[0], words[1:]) as context:
                    name, found, rest = command.resolve_command(context, words[1:])
                    assert found is not None
                    found.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    local = [link.partition("#")[0] for link in LINK.findall(text) if "://" not in link]
    missing = [link for link in local if not (page.parent / link).exists()]
    assert not missing


def test_the_picture_of_patterns_can_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib").use("agg")
    drawn = tmp_path / "patterns.png"
    monkeypatch.setattr(sys, "argv", ["draw_patterns.py", str(drawn)])
    runpy.run_path(str(ROOT / "examples/draw_patterns.py"), run_name="__main__")
    assert drawn.read_bytes().startswith(b"\x89PNG")

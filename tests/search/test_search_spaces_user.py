"""Spaces from files of the user's own, and the look at a space before any training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dnc_search.space import Shape
from dnc_search.spaces import (
    Cnn,
    Mlp,
    SparseMlp,
    check_space,
    space_from,
    space_from_record,
    space_record,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "search_space.py"
SHAPE = Shape(12, 3)

# a space that works; tests replace a line of it
SOURCE = """
from dataclasses import dataclass
import torch
from torch import nn
from dnc_search.parameters import Integer
from dnc_search.space import Bayesian, Space

@dataclass(frozen=True)
class Own(Space):
    most: int = 9
    wish: set[int] | None = None

    def stages(self, shape):
        stage = Bayesian("architecture", (Integer("nodes", 1, self.most),), ())
        return (stage,)

    def build(self, config, shape, seed):
        torch.manual_seed(seed)
        n = config["nodes"]
        return nn.Sequential(nn.Linear(shape.n_features, n), nn.Linear(n, shape.n_outputs))

    def largest(self, shape):
        return {"nodes": self.most}
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(old: str = "", new: str = "") -> str:
        assert old in SOURCE
        path = tmp_path / "own.py"
        path.write_text(SOURCE.replace(old, new) if old else SOURCE)
        return f"{path}:Own"

    return written


def test_the_example_is_a_space() -> None:
    space = space_from(f"{EXAMPLE}:Bottleneck", {"outer": [4, 8]})
    check_space(space, SHAPE)
    assert space.largest(SHAPE) == {"outer": 8, "middle": 16}
    record = json.loads(json.dumps(space_record(space)))
    rebuilt = space_from_record(record)
    assert space_record(rebuilt) == record


@pytest.mark.parametrize("space", [Mlp(), SparseMlp(), Cnn(conv_layers=(1, 3))])
def test_our_own_spaces_check(space: Mlp) -> None:
    check_space(space, Shape(64, 3, image=(1, 8, 8)))


def test_a_space_of_ones_own(write: Write) -> None:
    space = space_from(write(), {"most": 4, "wish": {1}})
    check_space(space, SHAPE)
    assert space.largest(SHAPE) == {"nodes": 4}


def test_a_changed_file_is_not_the_space_of_the_search(write: Write) -> None:
    record = space_record(space_from(write()))
    assert set(record) == {"name", "options", "sha256"}
    write("import torch", "import nowhere")
    # the changed file is not even run
    with pytest.raises(ValueError, match=r"own\.py has changed since the search began \(sha256 "):
        space_from_record(record)


def test_the_same_file_elsewhere(write: Write, tmp_path: Path) -> None:
    record = space_record(space_from(write(), {"most": 4}))
    moved = (tmp_path / "own.py").rename(tmp_path / "moved.py")
    with pytest.raises(ValueError, match=r"^the file of the space is not there: .*own\.py; name"):
        space_from_record(record)
    assert space_from_record(record, moved).largest(SHAPE) == {"nodes": 4}


def test_options_that_no_ledger_holds(write: Write) -> None:
    space = space_from(write(), {"wish": {1}})
    with pytest.raises(ValueError, match=r"^the fields of Own must be plain values, which JSON ho"):
        space_record(space)


def test_a_class_that_was_read_from_nowhere() -> None:
    namespace: dict[str, type[Mlp]] = {}
    exec("from dnc_search.spaces import Mlp\nclass Mine(Mlp): pass", {"__name__": "?"}, namespace)
    with pytest.raises(ValueError, match=r"^Mine was not read from a file, so no worker could"):
        space_record(namespace["Mine"]())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "own.txt:Own",
            r"^a space of your own is named as path/to/file\.py:ClassName, got 'own\.t",
        ),
        ("own.py:", r"^a space of your own is named as path/to/file\.py:ClassName, got 'own\.py:'"),
        ("nowhere/own.py:Own", r"^the file of the space is not there: .*nowhere/own\.py; name one"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space_from(name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("class Own(Space)", "class Other(Space)", r"Own of .*: no such class; spaces .*: Other$"),
        ("class Own(Space)", "class Own", r"Own of .*: not a subclass of .*Space; .*: none$"),
        ("def largest", "def biggest", r"Own of .* lacks largest; define them"),
        ("import torch", "import torch, nowhere", r"own\.py does not run: ModuleNotFoundError: "),
    ],
)
def test_classes_that_are_no_spaces(write: Write, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space_from(write(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return (stage,)", "return ()", "^a space needs stages of different names, got none"),
        ("return (stage,)", "return (stage, stage)", "^a space needs stages of different names, "),
        ("return (stage,)", "1 / 0", "^the space cannot list its stages: ZeroDivisionError: div"),
        ('{"nodes": self.most}', "None.most", "^the space cannot give its largest network: Attr"),
        ("config[", "1 / 0 + config[", r"cannot build the configuration \{.*'nodes': 9.*: Zero"),
        ('n = config["nodes"]', "return 3", r"^build must return an nn\.Module, but gave 3 for \{"),
        ("(n, shape.n_outputs)", "(n, 7)", r"must give \[batch, 3\], but 2 samples gave \[2, 7\]"),
        (
            "(shape.n_features, n)",
            "(5, n)",
            r"^the space cannot run the configuration .*'nodes': 9",
        ),
        ("torch.manual_seed(seed)", "pass", r"^the space builds other weights from the same seed"),
        ("self.most}", "[9]}", r"^values of a configuration must be numbers or texts, but nodes "),
        (
            "return (stage,)",
            "from dataclasses import replace\n        return (replace(stage, decode=len),)",
            r"^the space cannot draw a point of its architecture stage: TypeError: 'int' object is",
        ),
        (
            "return (stage,)",
            "from dataclasses import replace\n"
            "        return (replace(stage, decode=lambda point: {'width': 3}),)",
            "^the architecture stage draws width, which is none of its parameters: nodes",
        ),
        (
            "return (stage,)",
            "from dataclasses import replace\n"
            "        return (replace(stage, decode=lambda point: {'nodes': 10}),)",
            r"^nodes must be a whole number in 1\.\.9, got 10",
        ),
    ],
)
def test_what_a_look_finds(write: Write, old: str, new: str, message: str) -> None:
    space = space_from(write(old, new))
    with pytest.raises(ValueError, match=message):
        check_space(space, SHAPE)


def test_an_image_space_on_data_that_are_no_images() -> None:
    with pytest.raises(ValueError, match=r"cannot complete .*: a CNN needs images, but the data"):
        check_space(Cnn(), SHAPE)

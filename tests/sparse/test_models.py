"""The table of models: a part of it is made, and what goes wrong in a model is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import models
import pytest
import torch
import typer
from model_zoo import Model
from torch import nn
from typer.testing import CliRunner

PARTS = {
    "torch": ("TransformerEncoder", "TransformerDecoder", "Transformer"),
    "torchvision": ("resnet18", "mobilenet_v3_small", "vit_b_16", "swin_t"),
    "timm": ("deit_tiny_patch16_224", "convit_tiny", "mixer_s32_224", "levit_128s"),
    "transformers": (
        "BertForSequenceClassification",
        "GPT2LMHeadModel",
        "LlamaForCausalLM",
        "T5ForConditionalGeneration",
    ),
}
CASES = [f"{library}/{name}" for library, names in PARTS.items() for name in names]


def run(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(models.main)
    return CliRunner().invoke(app, arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_models(name: str) -> None:
    pytest.importorskip(name.partition("/")[0])
    (model,) = models.select(name)
    row = models.measured(model, 1 / 8, (1, 8))
    assert all(row["finite"].values())
    assert set(row["finite"]) == {"dense", "1", "8"}
    assert row["replaced"]["1"] >= row["replaced"]["8"] >= 1
    assert row["parameters"]["1"] < row["parameters"]["dense"]
    for side in ("1", "8"):
        assert row["replaced"][side] + sum(row["left"][side].values()) == row["layers"]


@pytest.mark.slow
def test_layers_whose_weight_is_read_stay_dense() -> None:
    pytest.importorskip("torchvision")
    (model,) = models.select("torchvision/swin_t")
    row = models.measured(model, 1 / 8, (1,))
    # two in each of twelve blocks
    assert (row["replaced"]["1"], sum(row["left"]["1"].values())) == (28, 24)


def test_a_run_goes_on_and_fills_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers: list[nn.Module] = []

    def small() -> nn.Module:
        layers.append(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)))
        return layers[-1]

    def inputs() -> tuple[torch.Tensor]:
        return (torch.randn(2, 64),)

    def broken() -> nn.Module:
        raise ValueError("no such model")

    zoo = [Model("toy", "small", small, inputs), Model("toy", "broken", broken, inputs)]
    monkeypatch.setattr(models, "models", lambda: iter(zoo))
    page = tmp_path / "page.md"
    page.write_text("before\n" + "".join(models.MARKS) + "after\n")
    arguments = ("--out", str(tmp_path), "--page", str(page))
    result = run(*arguments)
    assert (result.exit_code, "toy/small ... 1/1 of 2 layers replaced" in result.output) == (
        1,
        True,
    )
    assert "FAILED: ValueError: no such model\n2 models, 1 failed: toy/broken" in result.output
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["model"] for row in rows] == ["toy/small", "toy/broken"]
    assert rows[0]["left"] == {"1": {"small": 1}, "8": {"small": 1}}
    assert "| toy/small | 0.00 M |" in page.read_text()
    assert "| toy/broken | failed: ValueError: no such model |" in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
    # again: what is there is not redone
    assert "..." not in run(*arguments).output
    assert len(layers) == 1
    assert run("--out", str(tmp_path), "--only", "toy/small", "--blocks", "4").exit_code == 0
    assert len(layers) == 2


def test_models_are_listed_and_chosen() -> None:
    names = run("--list").output.split()
    assert len(set(names)) == len(names) >= 3
    chosen = run("--list", "--only", "torch/TransformerDecoder,torch/*").output.split()
    assert chosen == ["torch/Transformer", "torch/TransformerEncoder", "torch/TransformerDecoder"]
    result = run("--list", "--only", "resnet9000")
    assert result.exit_code == 2
    assert "no model is named 'resnet9000'" in result.output


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n")
    with pytest.raises(ValueError, match=r"page.md lacks the lines '<!-- models -->"):
        models.put(page, "table")

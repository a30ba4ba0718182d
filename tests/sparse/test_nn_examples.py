"""The examples about layers run as they stand and show what they say."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from dnc_sparse.advice import timing

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def run(name: str) -> str:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_sparse_layer(show) -> None:  # type: ignore[no-untyped-def]
    text = show("sparse_layer.py")
    assert "2 of 2 layers replaced" in text
    first, *_, last = map(float, re.findall(r"loss ([\d.]+)", text))
    assert last < 0.7 * first


def test_sparsify_transformer(show) -> None:  # type: ignore[no-untyped-def]
    text = show("sparsify_transformer.py")
    assert "4 of 7 layers replaced" in text
    # always answering 9 would be right for 46 % of the positions
    (accuracy,) = map(float, re.findall(r"sequences: ([\d.]+)%", text))
    assert accuracy > 90


def test_language_model(tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "language_model.py"))
    out = tmp_path / "model.json"
    example["main"](1, 64, 16, 2, 30, 1 / 4, 16, False, out)
    record = json.loads(out.read_text())
    assert record["sparse"]["parameters"] < record["dense"]["parameters"]
    for kind in ("dense", "sparse"):
        losses = record[kind]["losses"]
        assert len(losses) == 35
        assert sum(losses[-5:]) < sum(losses[:5])


def test_advise_models(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interleaved(runs: list[Callable[[], object]], *_: object, **__: object) -> list[float]:
        for run in runs:
            run()
        return [10.0, 0.0, 0.0, 3.0, 2.0, 3.1, 1.0]

    monkeypatch.setattr(timing, "interleaved", interleaved)
    names = runpy.run_path(str(EXAMPLES / "advise_models.py"))
    names["main"].__globals__.update(WIDTHS=(64,), BATCHES=(4,))
    names["main"]()
    text = "64 -> 64, batch 4: gains 1.5x; no gain: keep dense; gains 3.0x\n"
    assert capsys.readouterr().out == text
    for build in ("mlp", "encoder"):
        model, example = names[build]()
        assert len(model(example[:1])) == 1

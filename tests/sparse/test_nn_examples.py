"""The examples about layers run as they stand and show what they say."""

from __future__ import annotations

import gzip
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


def test_language_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLES / "language_model.py"))
    out, text = tmp_path / "model.json", tmp_path / "text.txt.gz"
    text.write_bytes(gzip.compress(b"the cat sat on the mat; " * 200))
    sizes = {"layers": 1, "width": 64, "context": 16, "batch": 4, "steps": 30, "rate": 6e-3}
    asked = {**sizes, "density": 1 / 4, "block": 16, "text": text, "compiled": False, "out": out}
    example["main"](**asked)
    variants = json.loads(out.read_text())["variants"]
    dense, half, sparse = (variants[name] for name in example["VARIANTS"])
    # attention 4, feed-forward 8 times 64 * 64 weights, of which a quarter stays
    assert dense["parameters"] - half["parameters"] == 64 * 64 * 6
    assert dense["parameters"] - sparse["parameters"] == 64 * 64 * 9
    assert list(half["methods"]) == ["wide", "narrow"]
    assert len(sparse["methods"]) == 4
    assert set(sparse["methods"]["wide"]) >= {"forward", "grad_input", "grad_weight"}
    for record in (dense, half, sparse):
        assert len(record["losses"]) == 30
        # 3.2 nats at most once it knows which 11 bytes there are
        assert record["losses"][0] > 5
        assert record["validation_loss"] < 3.2
    assert out.with_suffix(".png").stat().st_size > 1000
    # what is there is not trained again, and not overwritten by something else
    before = out.read_text()
    capsys.readouterr()
    example["main"](**asked)
    assert out.read_text() == before
    assert "step" not in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"holds results of other arguments .* choose another"):
        example["main"](**asked | {"steps": 10})
    assert out.read_text() == before
    out.write_text('{"dense": {}}')
    with pytest.raises(ValueError, match=r"holds something else than results of this program; "):
        example["main"](**asked)
    assert out.read_text() == '{"dense": {}}'


def test_language_model_tells_what_it_cannot_learn(tmp_path: Path) -> None:
    main = runpy.run_path(str(EXAMPLES / "language_model.py"))["main"]
    text = tmp_path / "short.txt"
    text.write_bytes(b"a" * 600)
    message = r"^a text of 600 bytes leaves 60 for validation, of which one sample takes 65; give a"
    with pytest.raises(ValueError, match=message):
        main(1, 64, 64, 2, text=text)
    with pytest.raises(ValueError, match=r"^9 steps, 5 of them to warm up; take 10 or more$"):
        main(steps=9)


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

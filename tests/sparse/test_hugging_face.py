"""Sparse models of transformers and accelerate: saved, loaded, trained, generating."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision_ops import declare

from dnc_sparse import SparseLinear, conversion_report, sparsify
from dnc_sparse.hugging_face import SparsePreTrained

# transformers imports torchvision where there is one
declare()
transformers = pytest.importorskip("transformers")
accelerate = pytest.importorskip("accelerate")

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = {"vocab_size": 100, "intermediate_size": 128, "max_position_embeddings": 32, **SIZES}
WORDS = torch.arange(12).reshape(2, 6)
FOREIGN = r"the weights belong to clash_free\(.* but this layer has clash_free\("


class SparseBert(SparsePreTrained, transformers.BertForSequenceClassification):  # type: ignore[misc]
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        sparsify(self, density=config.density, seed=config.pattern_seed)


class SparseLlama(SparsePreTrained, transformers.LlamaForCausalLM):  # type: ignore[misc]
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        sparsify(self, density=config.density, seed=config.pattern_seed, skip=["lm_head"])


class SparseGPT2(SparsePreTrained, transformers.GPT2LMHeadModel):  # type: ignore[misc]
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        sparsify(self, density=config.density, seed=config.pattern_seed, skip=["lm_head"])


class SparseT5(SparsePreTrained, transformers.T5ForConditionalGeneration):  # type: ignore[misc]
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        sparsify(self, density=config.density, seed=config.pattern_seed, skip=["lm_head"])


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def bert(seed: int = 0, **options: Any) -> Any:
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    choice = {"density": 0.25, "pattern_seed": seed}
    return SparseBert(transformers.BertConfig(**WIDE, **still, **choice, **options)).eval()


def llama(tied: bool = False) -> Any:
    choice = {"density": 0.25, "pattern_seed": 0, "tie_word_embeddings": tied}
    config = transformers.LlamaConfig(**WIDE, num_key_value_heads=2, **choice)
    return SparseLlama(config).eval()


def gpt2() -> Any:
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32}
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.GPT2Config(
        vocab_size=100, density=0.25, pattern_seed=0, **sizes, **special
    )
    return SparseGPT2(config).eval()


def t5() -> Any:
    sizes = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    choice = {"density": 0.25, "pattern_seed": 0, "decoder_start_token_id": 0}
    return SparseT5(transformers.T5Config(vocab_size=100, **sizes, **choice)).eval()


def logits(model: Any) -> Tensor:
    words = {"input_ids": WORDS}
    if model.config.is_encoder_decoder:
        words["decoder_input_ids"] = WORDS
    with torch.no_grad():
        result: Tensor = model.eval()(**words).logits.float()
    return result


def save(folder: Path, model: Any | None = None, **options: Any) -> Any:
    model = bert() if model is None else model
    model.save_pretrained(str(folder), **options)
    return model


def load(folder: Path, seed: int = 0, **options: Any) -> Any:
    return SparseBert.from_pretrained(str(folder), pattern_seed=seed, **options).eval()


@pytest.mark.parametrize("build", [bert, llama, gpt2, t5])
def test_what_is_saved_is_loaded(build: Callable[[], Any], tmp_path: Path) -> None:
    model = save(tmp_path, build())
    again = type(model).from_pretrained(str(tmp_path))
    sparse = [m for m in again.modules() if isinstance(m, SparseLinear)]
    assert len(sparse) >= 8
    assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize("build", [lambda: llama(tied=True), gpt2, t5])
def test_tied_heads_stay_tied_and_generate(build: Callable[[], Any], tmp_path: Path) -> None:
    model = save(tmp_path, build())
    again = type(model).from_pretrained(str(tmp_path)).eval()
    assert again.lm_head.weight is again.get_input_embeddings().weight
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(WORDS, **options)
    assert torch.equal(again.generate(WORDS, **options), expected)


class SparseMaskedBert(SparsePreTrained, transformers.BertForMaskedLM):  # type: ignore[misc]
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.report = conversion_report(sparsify(self, 0.25))


class SparseTiedGPT2(SparsePreTrained, transformers.GPT2LMHeadModel):  # type: ignore[misc]
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.report = conversion_report(sparsify(self, 0.25))


TIED: dict[str, Callable[[], Any]] = {
    "cls.predictions.decoder": lambda: SparseMaskedBert(transformers.BertConfig(**WIDE)),
    "lm_head": lambda: SparseTiedGPT2(gpt2().config),
}


@pytest.mark.parametrize("head", TIED)
def test_ties_are_seen_where_transformers_has_not_tied_yet(head: str, tmp_path: Path) -> None:
    model = save(tmp_path, TIED[head]().eval())
    again = type(model).from_pretrained(str(tmp_path)).eval()
    for one in (model, again):
        (row,) = (row for row in one.report.rows if head in row.names)
        assert re.match(
            r"left dense: its (weight is tied to|parameters are shared with) '", row.note
        )
    assert torch.equal(logits(again), logits(model))


def pickled(folder: Path) -> None:
    model = save(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


SHARDED = {"max_shard_size": "20KB"}
ROADS: dict[str, tuple[Callable[[Path], Any], dict[str, Any]]] = {
    "plain": (save, {}),
    "dtype": (save, {"dtype": torch.float64}),
    "bfloat16": (save, {"dtype": torch.bfloat16}),
    "dtype-auto": (save, {"dtype": "auto"}),
    "device-map": (save, {"device_map": "cpu"}),
    "device-map-auto": (save, {"device_map": "auto"}),
    "mismatched-sizes": (save, {"ignore_mismatched_sizes": True}),
    "pickled": (pickled, {"use_safetensors": False}),
    "sharded": (lambda folder: save(folder, **SHARDED), {}),
    "sharded-auto": (lambda folder: save(folder, **SHARDED), {"device_map": "auto"}),
}


@pytest.mark.parametrize("road", ROADS)
def test_roads_of_from_pretrained(road: str, tmp_path: Path) -> None:
    saving, options = ROADS[road]
    torch.manual_seed(0)
    saving(tmp_path)
    torch.manual_seed(0)
    expected = logits(bert())
    tolerance = 0.05 if road == "bfloat16" else 1e-5
    assert (logits(load(tmp_path, **options)) - expected).abs().max() <= tolerance
    with pytest.raises(RuntimeError, match=FOREIGN):
        load(tmp_path, seed=1, **options)


@pytest.mark.parametrize("placed", [{}, {"device_map": "cpu"}], ids=str)
@pytest.mark.parametrize("name", ["layer.0.intermediate.dense", "layer.1.attention.self.query"])
def test_a_layer_that_the_checkpoint_lacks_is_drawn(
    name: str, placed: dict[str, Any], tmp_path: Path
) -> None:
    model = bert()
    state = {key: value for key, value in model.state_dict().items() if name not in key}
    save(tmp_path, model, state_dict=state)
    again = load(tmp_path, **placed)
    layer = again.get_submodule(f"bert.encoder.{name}")
    bound = layer.pattern.fan_in**-0.5
    assert 0.9 * bound < layer.weight.abs().max() <= bound
    assert 0.8 * bound < layer.bias.abs().max() <= bound
    assert logits(again).isfinite().all()
    for key, value in state.items():
        assert torch.equal(again.state_dict()[key], value)


def test_a_dense_checkpoint_is_refused_or_drawn(tmp_path: Path) -> None:
    model = transformers.BertForSequenceClassification(bert().config)
    save(tmp_path, model)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        load(tmp_path)
    again = load(tmp_path, ignore_mismatched_sizes=True)
    weight = again.bert.encoder.layer[0].intermediate.dense.weight
    assert 0 < weight.abs().max() <= 0.25
    assert logits(again).isfinite().all()


def test_weights_without_their_record_are_refused(tmp_path: Path) -> None:
    model = bert()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("_extra_state")}
    save(tmp_path, model, state_dict=state)
    with pytest.raises(RuntimeError, match=r"pattern record of .* is damaged"):
        logits(load(tmp_path))


def test_a_part_of_another_model_is_drawn(tmp_path: Path) -> None:
    class Pair(transformers.PreTrainedModel):  # type: ignore[misc]
        config_class = transformers.BertConfig
        _supports_sdpa = True

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.one = SparseBert(config)
            self.two = nn.Linear(4, 4)
            self.post_init()

    model = Pair(bert().config)
    name = "one.bert.pooler.dense"
    state = {key: value for key, value in model.state_dict().items() if name not in key}
    save(tmp_path, model, state_dict=state)
    again = Pair.from_pretrained(str(tmp_path))
    layer = again.get_submodule(name)
    assert isinstance(layer, SparseLinear)
    assert 0 < layer.weight.abs().max() <= 0.25


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"input_ids": (torch.arange(6) + i) % 90, "labels": torch.tensor(i % 3)}


def test_the_trainer_trains_and_resumes(tmp_path: Path) -> None:
    def train(model: Any, steps: int, **options: Any) -> Any:
        arguments = transformers.TrainingArguments(
            *(str(tmp_path),),
            max_steps=steps,
            per_device_train_batch_size=4,
            save_steps=2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=1,
        )
        trainer = transformers.Trainer(model, arguments, train_dataset=Rows())
        trainer.train(**options)
        return model

    torch.manual_seed(0)
    model = bert(num_labels=3)
    start = model.bert.pooler.dense.weight.clone()
    train(model, 4)
    assert not torch.equal(model.bert.pooler.dense.weight, start)
    folder = str(tmp_path / "checkpoint-2")
    resumed = train(bert(num_labels=3), 4, resume_from_checkpoint=folder)
    assert torch.equal(logits(resumed), logits(model))
    with pytest.raises(RuntimeError, match=FOREIGN):
        train(bert(seed=1, num_labels=3), 4, resume_from_checkpoint=folder)


def layers(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(0)
    choice = {"density": 0.25, "seed": seed}
    return nn.Sequential(
        SparseLinear(64, 64, **choice), nn.ReLU(), SparseLinear(64, 32, block=4, **choice)
    )


@pytest.mark.parametrize("buffers", [True, False])
@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_load_checkpoint_and_dispatch(buffers: bool, place: str, tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    model, x, file = layers(), torch.randn(3, 64), str(tmp_path / "model.safetensors")
    save_file(model.state_dict(), file, metadata={"format": "pt"})

    def loaded(seed: int) -> nn.Module:
        with accelerate.init_empty_weights(include_buffers=buffers):
            empty = layers(seed)
        result: nn.Module = accelerate.load_checkpoint_and_dispatch(
            empty,
            file,
            device_map={"0": place, "1": "cpu", "2": "cpu"},
            offload_folder=str(tmp_path / "offload"),
        )
        return result

    assert torch.equal(loaded(0)(x), model(x))
    with pytest.raises((RuntimeError, ValueError), match=rf"{FOREIGN}|_extra_state"):
        loaded(1)(x)


@pytest.mark.parametrize("buffers", [True, False])
def test_offloading_to_the_cpu(buffers: bool) -> None:
    model, x = layers(), torch.randn(3, 64)
    expected = model(x)
    offloaded = accelerate.cpu_offload(model, execution_device="cpu", offload_buffers=buffers)
    assert torch.equal(offloaded(x), expected)


@pytest.mark.skipif("ACCELERATE_USE_CPU" in os.environ, reason="the environment chooses a device")
def test_the_accelerator_prepares_and_restores(tmp_path: Path) -> None:
    def prepared(seed: int) -> tuple[Any, Any, Any]:
        accelerator, model = accelerate.Accelerator(cpu=True), layers(seed)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        return accelerator, *accelerator.prepare(model, optimizer)

    accelerator, model, optimizer = prepared(0)
    x = torch.randn(3, 64)
    accelerator.backward(model(x).square().mean())
    optimizer.step()
    accelerator.save_state(str(tmp_path))
    accelerator, again, _ = prepared(0)
    accelerator.load_state(str(tmp_path))
    assert torch.equal(again(x), model(x))
    accelerator = prepared(1)[0]
    with pytest.raises(RuntimeError, match=FOREIGN):
        accelerator.load_state(str(tmp_path))

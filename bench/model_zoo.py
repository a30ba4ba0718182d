"""The models of other libraries that `bench/models.py` makes sparse: small, with random weights.

Nothing is downloaded. Each model comes with inputs that its forward takes; sizes are the smallest
that a library's own builders offer, or tiny configurations where it has those.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision_ops import declare

IMAGES, SENTENCES, TOKENS, VOCABULARY = 2, 2, 32, 128


@dataclass(frozen=True)
class Model:
    """A model to be tried: how to build it, and the keyword or positional inputs of a forward."""

    library: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...] | dict[str, Any]]

    @property
    def full_name(self) -> str:
        """Library and name, by which `--only` selects."""
        return f"{self.library}/{self.name}"


def models() -> Iterator[Model]:
    """Give the models of the libraries that are installed."""
    yield from _torch_models()
    for library, give in (
        ("torchvision", _torchvision_models),
        ("timm", _timm_models),
        ("transformers", _transformers_models),
    ):
        if importlib.util.find_spec(library) is not None:
            declare()
            yield from give()


def _torch_models() -> Iterator[Model]:
    sizes: dict[str, Any] = {"dim_feedforward": 1024, "dropout": 0.0, "batch_first": True}

    def sequences(count: int) -> Callable[[], tuple[Any, ...]]:
        return lambda: tuple(torch.randn(SENTENCES, TOKENS, 256) for _ in range(count))

    def transformer() -> nn.Module:
        return nn.Transformer(256, 4, num_encoder_layers=2, num_decoder_layers=2, **sizes)

    def encoder() -> nn.Module:
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(256, 4, **sizes), num_layers=2)

    def decoder() -> nn.Module:
        return nn.TransformerDecoder(nn.TransformerDecoderLayer(256, 4, **sizes), num_layers=2)

    yield Model("torch", "Transformer", transformer, sequences(2))
    yield Model("torch", "TransformerEncoder", encoder, sequences(1))
    yield Model("torch", "TransformerDecoder", decoder, sequences(2))


def _image(pixels: int) -> Callable[[], tuple[Tensor]]:
    return lambda: (torch.randn(IMAGES, 3, pixels, pixels),)


# name, pixels, further arguments
_TORCHVISION: tuple[tuple[str, int, Mapping[str, Any]], ...] = (
    ("alexnet", 96, {}),
    ("vgg11", 64, {}),
    ("resnet18", 64, {}),
    ("densenet121", 64, {}),
    ("mobilenet_v3_small", 64, {}),
    ("efficientnet_b0", 64, {}),
    ("regnet_y_400mf", 64, {}),
    ("convnext_tiny", 64, {}),
    ("vit_b_16", 64, {"image_size": 64}),
    ("swin_t", 64, {}),
    ("swin_v2_t", 64, {}),
    ("maxvit_t", 224, {}),
)


def _torchvision_models() -> Iterator[Model]:
    from torchvision import models as zoo

    for name, pixels, options in _TORCHVISION:
        yield Model(
            *("torchvision", name),
            lambda name=name, options=options: zoo.get_model(name, weights=None, **options),
            _image(pixels),
        )


# name, pixels; a variant whose size is fixed gets its own
_TIMM = (
    ("beit_base_patch16_224", 64),
    ("cait_xxs24_224", 64),
    ("coat_tiny", 64),
    ("convit_tiny", 64),
    ("convnext_atto", 64),
    ("crossvit_tiny_240", 240),
    ("davit_tiny", 64),
    ("deit_tiny_patch16_224", 64),
    ("edgenext_xx_small", 64),
    ("efficientformer_l1", 224),
    ("efficientvit_b0", 64),
    ("eva02_tiny_patch14_224", 56),
    ("fastvit_t8", 64),
    ("focalnet_tiny_srf", 64),
    ("gmlp_ti16_224", 64),
    ("hiera_tiny_224", 224),
    ("inception_next_atto", 64),
    ("levit_128s", 224),
    ("maxvit_rmlp_pico_rw_256", 256),
    ("mixer_s32_224", 64),
    ("mobilevit_xxs", 64),
    ("mvitv2_tiny", 64),
    ("nest_tiny", 224),
    ("pit_ti_224", 64),
    ("poolformer_s12", 64),
    ("pvt_v2_b0", 64),
    ("resmlp_12_224", 64),
    ("swin_tiny_patch4_window7_224", 224),
    ("swinv2_tiny_window8_256", 256),
    ("tiny_vit_5m_224", 224),
    ("tnt_s_legacy_patch16_224", 64),
    ("twins_svt_small", 64),
    ("vit_tiny_patch16_224", 64),
    ("volo_d1_224", 224),
    ("xcit_nano_12_p16_224", 64),
)


def _timm_models() -> Iterator[Model]:
    import timm

    def build(name: str, pixels: int) -> nn.Module:
        options = {"img_size": pixels} if pixels not in (224, 240, 256) else {}
        try:
            return timm.create_model(name, pretrained=False, **options)
        except TypeError as error:
            # convolutional families take images of any size and have no such argument
            if "img_size" not in str(error):
                raise
            return timm.create_model(name, pretrained=False)

    for name, pixels in _TIMM:
        yield Model(
            "timm",
            name,
            lambda name=name, pixels=pixels: build(name, pixels),
            _image(pixels),
        )


_LLAMA: Mapping[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_KEY_VALUE = {**_LLAMA, "num_key_value_heads": 2, "max_position_embeddings": 64}
_BERT = {**_LLAMA, "max_position_embeddings": 64}
_VISION = {**_LLAMA, "image_size": 64, "patch_size": 16}
_GPT2 = {"n_embd": 256, "n_layer": 2, "n_head": 4, "n_positions": 64}
_T5 = {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 2, "num_heads": 4}
_ENCODER_DECODER = {
    "d_model": 256,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 1024 for side in ("encoder", "decoder")},
}
# class, kind of inputs, sizes; the configuration's class is beside it
_TRANSFORMERS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("BertForSequenceClassification", "text", _BERT),
    ("RobertaForMaskedLM", "text", _BERT),
    (
        "DistilBertForSequenceClassification",
        "text",
        {"dim": 256, "hidden_dim": 1024, "n_layers": 2, "n_heads": 4},
    ),
    ("AlbertModel", "text", {**_BERT, "embedding_size": 64}),
    ("ElectraModel", "text", _BERT),
    ("GPT2LMHeadModel", "text", _GPT2),
    ("GPTNeoXForCausalLM", "text", _BERT),
    ("OPTForCausalLM", "text", {**_LLAMA, "ffn_dim": 1024, "word_embed_proj_dim": 256}),
    ("BloomForCausalLM", "text", {"hidden_size": 256, "n_layer": 2, "n_head": 4}),
    ("LlamaForCausalLM", "text", _KEY_VALUE),
    ("MistralForCausalLM", "text", _KEY_VALUE),
    ("Qwen2ForCausalLM", "text", _KEY_VALUE),
    ("PhiForCausalLM", "text", _BERT),
    ("GemmaForCausalLM", "text", {**_KEY_VALUE, "head_dim": 64}),
    ("MixtralForCausalLM", "text", {**_KEY_VALUE, "num_local_experts": 4}),
    ("T5ForConditionalGeneration", "both", _T5),
    ("BartForConditionalGeneration", "both", {**_ENCODER_DECODER, "max_position_embeddings": 64}),
    ("ViTForImageClassification", "image", _VISION),
    ("CLIPVisionModel", "image", _VISION),
    ("CLIPTextModel", "text", _BERT),
    ("WhisperForConditionalGeneration", "audio", {**_ENCODER_DECODER, "num_mel_bins": 16}),
)


def _transformers_models() -> Iterator[Model]:
    import transformers

    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

    def build(name: str, kind: str, sizes: Mapping[str, Any]) -> nn.Module:
        cls = getattr(transformers, name)
        words = {} if kind == "image" else {"vocab_size": VOCABULARY, **special}
        if kind in ("both", "audio"):
            words["decoder_start_token_id"] = 1
        if kind == "audio":
            words |= {"max_source_positions": TOKENS, "max_target_positions": TOKENS}
        model: nn.Module = cls(cls.config_class(**sizes, **words))
        return model

    for name, kind, sizes in _TRANSFORMERS:
        yield Model(
            "transformers",
            name,
            lambda name=name, kind=kind, sizes=sizes: build(name, kind, sizes),
            lambda kind=kind: _inputs(kind),
        )


def _inputs(kind: str) -> dict[str, Any]:
    words = torch.randint(3, VOCABULARY, (SENTENCES, TOKENS))
    if kind == "text":
        return {"input_ids": words}
    if kind == "image":
        return {"pixel_values": torch.randn(IMAGES, 3, 64, 64)}
    if kind == "both":
        return {"input_ids": words, "decoder_input_ids": words}
    return {
        "input_features": torch.randn(SENTENCES, 16, 2 * TOKENS),
        "decoder_input_ids": words,
    }

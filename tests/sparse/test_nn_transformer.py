"""torch's own transformer encoder with sparse feed-forward layers, its fused eval path included."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from dnc_sparse.nn import SparseLinear, avoid_fused_encoder, conversion_report, sparsify

WIDTH = 32


def encoder_layer(batch_first: bool = True, norm_first: bool = False) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        *(WIDTH, 4, 64), dropout=0, batch_first=batch_first, norm_first=norm_first
    )


def encoder(batch_first: bool = True, nested: bool = True) -> nn.TransformerEncoder:
    with warnings.catch_warnings():
        # torch warns that it will not use nested tensors where they do not apply
        warnings.filterwarnings("ignore", "enable_nested_tensor is True", UserWarning)
        return nn.TransformerEncoder(encoder_layer(batch_first), 2, enable_nested_tensor=nested)


def padding(batch: int, length: int) -> Tensor:
    """Mark all but the first 2, 3, ... tokens of each sequence as padding: [batch, length]."""
    return torch.arange(length)[None, :] >= torch.arange(batch)[:, None] + 2


def assert_eval_equals_training(model: nn.Module, x: Tensor, **masks: Tensor) -> None:
    with torch.no_grad():
        expected = model.train()(x, **masks)
        result = model.eval()(x, **masks)
    kept = torch.ones(x.shape[:2], dtype=torch.bool)
    if "src_key_padding_mask" in masks:
        kept = ~masks["src_key_padding_mask"]
        kept = kept if kept.shape == x.shape[:2] else kept.T
    torch.testing.assert_close(result[kept], expected[kept])


def test_report_names_the_attention_projection() -> None:
    report = conversion_report(sparsify(encoder(), 0.25))
    assert [(row.names[0], row.replaced) for row in report.rows[:3]] == [
        ("layers.0.self_attn.out_proj", False),
        ("layers.0.linear1", True),
        ("layers.0.linear2", True),
    ]
    assert report.rows[0].note == "left dense: nn.MultiheadAttention reads its weight directly"


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_layer_in_eval_mode(batch_first: bool, norm_first: bool, padded: bool) -> None:
    model = encoder_layer(batch_first, norm_first)
    sparsify(model, 0.25)
    x = torch.randn(3, 5, WIDTH)
    masks = {"src_key_padding_mask": padding(3, 5)} if padded else {}
    assert_eval_equals_training(model, x if batch_first else x.transpose(0, 1), **masks)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_encoder_in_eval_mode(batch_first: bool, nested: bool, padded: bool) -> None:
    model = encoder(batch_first, nested)
    sparsify(model, 0.25)
    x = torch.randn(3, 5, WIDTH)
    masks = {"src_key_padding_mask": padding(3, 5)} if padded else {}
    assert_eval_equals_training(model, x if batch_first else x.transpose(0, 1), **masks)


def test_encoder_equals_its_masked_dense_form() -> None:
    model, dense = encoder().double(), encoder().double()
    sparsify(model, 0.25)
    with torch.no_grad():
        for target, source in zip(dense.layers, model.layers, strict=True):
            target.linear1, target.linear2 = source.linear1.to_dense(), source.linear2.to_dense()
            target.self_attn, target.norm1 = source.self_attn, source.norm1
        x = torch.randn(3, 5, WIDTH, dtype=torch.float64)
        # the dense one takes torch's fused path, the sparse one must not
        torch.testing.assert_close(model.eval()(x), dense.eval()(x))


def test_layers_put_in_by_hand_need_the_public_helper() -> None:
    model = encoder_layer().eval()
    model.linear1 = SparseLinear(WIDTH, 64, 0.25)  # type: ignore[assignment]
    x = torch.randn(3, 5, WIDTH)
    with torch.no_grad():
        with pytest.raises(RuntimeError, match=r"^2d weights expected$"):
            model(x)
        avoid_fused_encoder(model)
        assert model(x).shape == x.shape


def test_dense_encoders_keep_the_fused_path() -> None:
    model = encoder()
    sparsify(model, 0.25, skip=["layers.1"])
    assert model.layers[0].activation_relu_or_gelu == 0
    assert model.layers[1].activation_relu_or_gelu == 1


def test_trains() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, WIDTH), encoder(), nn.Linear(WIDTH, 10))
    sparsify(model, 0.25)
    tokens = torch.randint(10, (16, 6))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        # each position is to tell the token before it
        scores = model(tokens).flatten(0, 1)
        loss = nn.functional.cross_entropy(scores, tokens.roll(1, dims=1).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]

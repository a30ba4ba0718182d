"""LoRA adapters on sparse layers: what peft computes, trains, saves, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision_ops import declare

from dnc_sparse import SparseLinear, SparseMLP, densify

# peft imports transformers, which imports torchvision where there is one
declare()
peft = pytest.importorskip("peft")
from dnc_sparse.peft import LoraSparseLinear, register  # noqa: E402  (needs peft)


class Net(nn.Module):
    """Two sparse layers, single edges and blocks, and a dense one."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = SparseLinear(64, 48, 0.25, block=1, seed=seed)
        self.second = SparseLinear(48, 32, 0.25, seed=seed, block=4)
        self.last = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(self.second(torch.relu(self.first(x)))))
        return y


def config(**options: Any) -> Any:
    options = {"r": 4, "lora_alpha": 8, "target_modules": ["first", "second"], **options}
    return register(peft.LoraConfig(**options))


def trained(model: nn.Module, x: Tensor) -> nn.Module:
    """Take three steps, after which adapters are no longer zero."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5)
    for _ in range(3):
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(16, 64)


@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"lora_bias": True}], ids=str)
def test_output_is_dense_plus_adapter(name: str, options: dict[str, Any], x: Tensor) -> None:
    model = trained(peft.get_peft_model(Net(), config(**options)), x)
    layer = getattr(model.base_model.model, name)
    assert isinstance(layer, LoraSparseLinear)
    inputs = torch.randn(2, 5, layer.in_features)
    down, up = layer.lora_A["default"], layer.lora_B["default"]
    assert up.weight.abs().max() > 0
    expected = layer.base_layer.to_dense()(inputs) + layer.scaling["default"] * up(down(inputs))
    torch.testing.assert_close(layer(inputs), expected, rtol=1e-5, atol=1e-5)


def test_only_adapters_learn(x: Tensor) -> None:
    model = peft.get_peft_model(Net(), config())
    before = {n: p.clone() for n, p in model.named_parameters()}
    trained(model, x)
    for name, parameter in model.named_parameters():
        learns = "lora_" in name
        assert parameter.requires_grad == learns
        assert torch.equal(parameter, before[name]) != learns, name


def test_disabled_and_unloaded_adapters_leave_the_base(x: Tensor) -> None:
    base = Net().eval()
    expected = base(x)
    model = trained(peft.get_peft_model(base, config()), x)
    assert not torch.equal(model(x), expected)
    with model.disable_adapter():
        assert torch.equal(model(x), expected)
    unloaded = model.unload()
    assert type(unloaded.first) is SparseLinear
    assert torch.equal(unloaded(x), expected)


def test_two_adapters_and_mixed_batches(x: Tensor) -> None:
    model = trained(peft.get_peft_model(Net(), config()), x)
    model.add_adapter("other", config(init_lora_weights=False))
    first = model(x)
    mixed = model(x, adapter_names=["default"] * 8 + ["other"] * 8)
    model.set_adapter("other")
    torch.testing.assert_close(mixed, torch.cat([first[:8], model(x)[8:]]))


def test_save_and_load(x: Tensor, tmp_path: Path) -> None:
    model = trained(peft.get_peft_model(Net(), config(modules_to_save=["last"])), x)
    model.save_pretrained(str(tmp_path))
    loaded = register(peft.LoraConfig.from_pretrained(str(tmp_path)))
    again = peft.PeftModel.from_pretrained(Net(), str(tmp_path), config=loaded)
    assert torch.equal(again.eval()(x), model(x))


def test_an_unregistered_configuration_is_refused(x: Tensor, tmp_path: Path) -> None:
    model = peft.get_peft_model(Net(), config())
    model.save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match=r"^Target module SparseLinear\(.* is not supported"):
        peft.PeftModel.from_pretrained(Net(), str(tmp_path))


def test_a_sparse_layer_saved_whole_keeps_its_pattern(x: Tensor, tmp_path: Path) -> None:
    options = {"target_modules": ["first"], "modules_to_save": ["second"]}
    model = trained(peft.get_peft_model(Net(), config(**options)), x)
    model.save_pretrained(str(tmp_path))
    loaded = register(peft.LoraConfig.from_pretrained(str(tmp_path)))
    again = peft.PeftModel.from_pretrained(Net(), str(tmp_path), config=loaded)
    assert torch.equal(again.eval()(x), model(x))
    with pytest.raises(RuntimeError, match="the weights belong to clash_free"):
        peft.PeftModel.from_pretrained(Net(seed=3), str(tmp_path), config=loaded)


@pytest.mark.parametrize("safe", [True, False])
def test_merging_is_refused(safe: bool, x: Tensor) -> None:
    model = trained(peft.get_peft_model(Net(), config()), x)
    expected = model(x)
    merges = (model.merge_and_unload, model.merge_adapter)
    for merge in merges:
        with pytest.raises(
            ValueError,
            match=r"^merging an adapter would make .* 3,072 entries, .* only 768; .*densify",
        ):
            merge(safe_merge=safe)
    assert torch.equal(model(x), expected)


def test_merging_into_a_base_made_dense(x: Tensor, tmp_path: Path) -> None:
    model = trained(peft.get_peft_model(Net(), config()), x)
    model.save_pretrained(str(tmp_path))
    dense = Net()
    densify(dense)
    merged = peft.PeftModel.from_pretrained(dense, str(tmp_path)).merge_and_unload()
    assert type(merged.first) is nn.Linear
    torch.testing.assert_close(merged.eval()(x), model(x))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"init_lora_weights": "pissa"}, r"^init_lora_weights='pissa' is not offered on Sparse"),
        ({"init_lora_weights": "olora"}, r"^init_lora_weights='olora' .* choose True, False or"),
        ({"use_dora": True}, r"^use_dora needs the norms of a dense merged weight, .*=False$"),
    ],
)
def test_what_needs_a_dense_weight_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        peft.get_peft_model(Net(), config(**options))


def test_a_relu_inside_the_layer_is_refused() -> None:
    model = SparseMLP((64, 48, 10), density=0.25)
    name = next(n for n, m in model.named_modules() if isinstance(m, SparseLinear) and m.relu)
    with pytest.raises(ValueError, match=r"^SparseLinear\(.* applies ReLU itself, .*relu=False"):
        peft.get_peft_model(model, config(target_modules=[name]))


def test_all_linear_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^target_modules='all-linear' stands for dense layers"):
        config(target_modules="all-linear")


@pytest.mark.parametrize("name", ["IA3Config", "LoHaConfig"])
def test_other_methods_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^a {name} cannot be taught sparse layers; only Lora"):
        register(getattr(peft, name)(target_modules=["first"]))

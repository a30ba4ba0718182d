"""LoRA adapters of PEFT over sparse layers: y = W x + scaling * B A x, with W sparse and frozen.

Importing this module needs peft. Adapters have the sizes that they have on a dense layer.
"""

from __future__ import annotations

from typing import Any

try:
    from peft.tuners.lora import Linear
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "adapters on sparse layers need peft: pip install 'dnc-sparse[peft]'"
    ) from error

from dnc_sparse.nn import SparseLinear

# the others decompose the dense weight, and most change it
_INITS = (True, False, "gaussian")


def register(config: Any) -> Any:
    """Let a `LoraConfig` put adapters on sparse layers; return it.

    Call it before `get_peft_model`, and again on a configuration that was read from a file:
    `PeftModel.from_pretrained(model, path, config=register(LoraConfig.from_pretrained(path)))`.

    Raises TypeError for the configuration of another method than LoRA; ValueError for
    `target_modules="all-linear"`, by which peft means dense layers.
    """
    if not hasattr(config, "_register_custom_module"):
        raise TypeError(
            f"a {type(config).__name__} cannot be taught sparse layers; "
            f"only LoraConfig takes further kinds of layers"
        )
    if config.target_modules == "all-linear":
        raise ValueError(
            "target_modules='all-linear' stands for dense layers only: sparse ones would get "
            "no adapter; name the layers, as in target_modules=['q_proj', 'v_proj']"
        )
    config._register_custom_module({SparseLinear: LoraSparseLinear})
    return config


class LoraSparseLinear(Linear):  # type: ignore[misc]
    """A frozen `SparseLinear` and the adapters that are added to its output; made by peft.

    Raises ValueError for what a sparse base cannot give: variants and initial values that need the
    dense weight, merging, and a ReLU inside the layer, after which an adapter would be added.
    """

    def _get_in_out_features(self, module: Any) -> tuple[int, int]:
        # peft asks by this hook and warns of layers that it does not know
        return module.in_features, module.out_features

    @property
    def lora_variants(self) -> dict[tuple[str, ...], None]:
        """No variant: each reads the dense weight or merges into it."""
        return {(): None}

    def update_layer(
        self, adapter_name: str, r: int, lora_alpha: int, config: Any, **options: Any
    ) -> None:
        """Add an adapter; called by peft."""
        layer = self.get_base_layer()
        if isinstance(layer, SparseLinear):
            _check(layer, config)
        super().update_layer(adapter_name, r, lora_alpha=lora_alpha, config=config, **options)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse while the base is sparse: the sum of both is dense."""
        layer = self.get_base_layer()
        if isinstance(layer, SparseLinear):
            raise ValueError(
                f"merging an adapter would make the layer dense: B A has "
                f"{layer.in_features * layer.out_features:,} entries, the sparse weight only "
                f"{layer.n_edges:,}; keep the adapter beside it, or save it, make the base dense "
                f"(dnc_sparse.densify), load the adapter onto that and merge there"
            )
        super().merge(safe_merge, adapter_names)


def _check(layer: SparseLinear, config: Any) -> None:
    if layer.relu:
        raise ValueError(
            f"{layer} applies ReLU itself, so that an adapter would be added after it; "
            f"build the layer with relu=False and put an nn.ReLU behind"
        )
    if config.init_lora_weights not in _INITS:
        raise ValueError(
            f"init_lora_weights={config.init_lora_weights!r} is not offered on {layer}, "
            f"which has no dense weight to start from; choose True, False or 'gaussian'"
        )
    if config.use_dora:
        raise ValueError(
            f"use_dora needs the norms of a dense merged weight, which {layer} does not have; "
            f"use plain LoRA, use_dora=False"
        )

"""Models of Hugging Face's transformers with sparse layers: what `from_pretrained` asks of them."""

from __future__ import annotations

from typing import Any

from torch import nn

from dnc_sparse.nn import SparseLinear


class SparsePreTrained:
    """Base to put before a `PreTrainedModel`: draws the sparse layers that a checkpoint lacks.

    `from_pretrained` builds a model without memory, fills what the checkpoint has, and asks the
    model's `_init_weights` for the rest. Those of transformers know no sparse layers, and the one
    of a subclass is not asked about layers inside another model, such as `self.bert`: they would
    be left as uninitialised memory.
    """

    def _initialize_weights(self, module: Any, *args: Any, **kwargs: Any) -> None:
        # the walk over all modules, torch's initialisers guarded, ends at the model itself
        if module is self:
            _draw_all(module)
        super()._initialize_weights(module, *args, **kwargs)  # type: ignore[misc]


def _draw_all(model: Any) -> None:
    """Draw the parameters of sparse layers, but for those that transformers marked as loaded."""
    for layer in model.modules():
        if isinstance(layer, SparseLinear) and not all(map(_is_loaded, layer.parameters())):
            layer.reset_parameters()


def _is_loaded(parameter: nn.Parameter) -> bool:
    return getattr(parameter, "_is_hf_initialized", False)

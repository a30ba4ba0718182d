"""Import torchvision even where its compiled operators do not fit the installed torch.

The package index pairs torchvision with the CUDA build of torch only. Beside a CPU build its models
in plain Python work, but the import fails at the operators whose shapes it describes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

import torch

_SCHEMAS = tuple(
    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")
)
_kept: list[torch.library.Library] = []


def declare() -> None:
    """Declare the operators that torchvision's import asks for, if they are what it lacks."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        # operators live as long as their library
        library = torch.library.Library("torchvision", "DEF")
        _kept.append(library)
        for schema in _SCHEMAS:
            library.define(schema)
        importlib.import_module("torchvision")

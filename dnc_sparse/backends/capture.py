"""What the capture of a CUDA graph forbids, and what is said of it."""

from __future__ import annotations

import torch


def capturing(device: torch.device) -> bool:
    """Whether work for a device goes into a CUDA graph now instead of being done."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def refusal(what: str) -> RuntimeError:
    """Return the error for what has to be done once before it can be captured."""
    return RuntimeError(
        f"{what} has not run before, and while a CUDA graph is captured no kernel can be timed or "
        f"loaded and no table copied; run it once with such inputs before the capture"
    )

"""Train a small language model twice, its feed-forward layers dense and sparse, and compare.

The text is the source of Python's own standard library, byte by byte, so nothing is downloaded.
Defaults are GPT-2 small's sizes, for a GPU; on a CPU ask for less:

    python examples/language_model.py --layers 2 --width 128 --context 64 --batch 4 --steps 20
"""

import json
import sysconfig
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional

from dnc_sparse.nn import conversion_report, sparsify

VOCABULARY, HEAD = 256, 64
WARM_UP_STEPS = 5


class Block(nn.Module):
    """Causal attention and a feed-forward layer four times as wide, each added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD)
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.attention_in(self.norm_attention(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
        hidden = functional.gelu(self.wide(self.norm_forward(x)))
        y: Tensor = x + self.narrow(hidden)
        return y


class LanguageModel(nn.Module):
    """Scores the next byte at each position: [batch, length] -> [batch, length, 256]."""

    def __init__(self, layers: int, width: int, context: int) -> None:
        super().__init__()
        self.byte = nn.Embedding(VOCABULARY, width)
        self.position = nn.Parameter(torch.randn(context, width) / 50)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, VOCABULARY)

    def forward(self, text: Tensor) -> Tensor:
        scores: Tensor = self.scores(self.norm(self.blocks(self.byte(text) + self.position)))
        return scores


def corpus(least: int = 2**20) -> Tensor:
    """Return the sources of the standard library, one after the other: [bytes]."""
    text = bytearray()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += path.read_bytes()
    if len(text) < least:
        raise RuntimeError(f"the standard library here has only {len(text):,} bytes of source")
    return torch.frombuffer(text, dtype=torch.uint8)


def train(
    model: nn.Module, text: Tensor, context: int, batch: int, steps: int, compiled: bool
) -> tuple[list[float], float]:
    """Train with AdamW under bfloat16 autocast; return the losses and the tokens per second."""
    device = text.device
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(0)
    offsets = torch.arange(context + 1, device=device)
    losses: list[Tensor] = []
    started = 0.0
    for step in range(WARM_UP_STEPS + steps):
        if step == WARM_UP_STEPS:
            _finish(device)
            started = time.perf_counter()
        starts = torch.randint(len(text) - context, (batch, 1), generator=generator)
        sample = text[starts.to(device) + offsets].long()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            scores = run(sample[:, :-1])
            loss = functional.cross_entropy(scores.flatten(0, 1), sample[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    _finish(device)
    tokens = steps * batch * context / (time.perf_counter() - started)
    return torch.stack(losses).tolist(), tokens


def _not_feed_forward(name: str, _: nn.Linear) -> bool:
    return not name.endswith(("wide", "narrow"))


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main(
    layers: int = 12,
    width: int = 768,
    context: int = 1024,
    batch: int = 16,
    steps: int = 100,
    density: float = 1 / 8,
    block: int = 64,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile")] = True,
    out: Path | None = None,
) -> None:
    """Train both models from the same seed; print, and with --out write, speeds and losses."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    text = corpus().to(device)
    record: dict[str, object] = {}
    speeds: list[float] = []
    for kind in ("dense", "sparse"):
        torch.manual_seed(0)
        model = LanguageModel(layers, width, context)
        if kind == "sparse":
            model = sparsify(model, density=density, block=block, skip=_not_feed_forward)
            print(conversion_report(model))
        weights = sum(parameter.numel() for parameter in model.parameters())
        losses, tokens = train(model.to(device), text, context, batch, steps, compiled)
        speeds.append(tokens)
        record[kind] = {"parameters": weights, "tokens_per_second": tokens, "losses": losses}
        last = sum(losses[-10:]) / len(losses[-10:])
        print(f"{kind}: {weights:,} parameters, {tokens:,.0f} tokens/s, loss {last:.3f}")
    print(f"sparse trains {speeds[1] / speeds[0]:.2f} times as fast as dense")
    if out is not None:
        out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)

"""Train a language model dense, with sparse feed-forward layers, and with all layers sparse.

Defaults are four layers of width 2048, sparse ones in blocks of 64x64 at density 1/8, for a GPU. On
a CPU ask for less:

    python examples/language_model.py --layers 2 --width 128 --context 64 --batch 4 --block 16

Text is read byte by byte: the file of `--text` (tiny-shakespeare, say; .gz too), or the source of
Python's own standard library, so that nothing is downloaded. `--out model.json` also writes speeds
and losses, each variant as it ends, and model.png; asked again for the same, it goes on from there.

What an H200 can show (arithmetic, no measurement): milliseconds of one block and step of 16,384
tokens at 790 TFLOP/s dense, 220 TFLOP/s attention, 4 TB/s, a sparse step 5.4 times as fast.

|                                              | dense | feed-forward sparse | all sparse |
|----------------------------------------------|-------|---------------------|------------|
| linear layers of attention, 16.8 M weights   | 2.09  | 2.09                | 0.39       |
| feed-forward layers, 33.6 M weights          | 4.17  | 0.77                | 0.77       |
| attention, 1024 tokens, heads of 128         | 1.10  | 1.10                | 1.10       |
| norms, GELU, sums                            | 0.85  | 0.85                | 0.85       |
| AdamW and casts, 40 bytes a weight           | 0.50  | 0.21                | 0.06       |
| together                                     | 8.7   | 5.0: 1.7 times      | 3.2: 2.7   |
| tokens/s, four layers, 0.5 ms for the rest   | 460 k | 800 k               | 1.24 M     |

A feed-forward of no cost would give 2.1 times. More layers change little; a context of 512 gives
1.8 and 3.1, of 2048 1.6 and 2.3; a vocabulary of 50,257 in place of 256 bytes adds 14 ms a step to
all three (1.4 and 1.8). In GPT-2 small such layers are 30 % of the time: 1.43 times at most.
"""

import gzip
import json
import math
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional

from dnc_sparse import explain
from dnc_sparse.checkpoint import write_atomic
from dnc_sparse.extras import install_line, is_installed
from dnc_sparse.nn import SparseLinear, sparsify

VOCABULARY, HEAD = 256, 128
WARM_UP_STEPS = 5
# names of the layers that each variant makes sparse
VARIANTS = {
    "dense": (),
    "feed-forward sparse": ("blocks.*.wide", "blocks.*.narrow"),
    "all sparse": ("blocks.*",),
}


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


def corpus(path: Path | None) -> Tensor:
    """Return a file's bytes, or the standard library's sources one after the other: [bytes]."""
    if path is None:
        sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        text = b"".join(source.read_bytes() for source in sources)
    else:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def split(text: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Return the text to train on, and its last tenth, which is kept for validation."""
    kept = len(text) // 10
    if kept <= context:
        raise ValueError(
            f"a text of {len(text):,} bytes leaves {kept:,} for validation, of which one sample "
            f"takes {context + 1:,}; give a longer --text or a shorter --context"
        )
    return text[:-kept], text[-kept:]


def loss_of(model: nn.Module, sample: Tensor) -> Tensor:
    """Nats per byte of samples of text, [batch, context + 1], on a GPU in bfloat16."""
    with torch.autocast(sample.device.type, torch.bfloat16, enabled=sample.is_cuda):
        scores = model(sample[:, :-1])
        return functional.cross_entropy(scores.flatten(0, 1), sample[:, 1:].flatten())


def samples(text: Tensor, starts: Tensor, context: int) -> Iterator[Tensor]:
    """Yield the samples that begin at each row of `starts`, [steps, batch]."""
    offsets = torch.arange(context + 1, device=text.device)
    for row in starts.to(text.device):
        yield text[row[:, None] + offsets].long()


def train(
    model: nn.Module,
    text: Tensor,
    context: int,
    batch: int,
    steps: int,
    rate: float,
    compiled: bool,
) -> dict[str, Any]:
    """Train with AdamW; return the loss of each step and the tokens per second after warm-up."""
    device = text.device
    loss_and_graph = torch.compile(loss_of) if compiled else loss_of
    optimizer = torch.optim.AdamW(model.parameters(), rate, (0.9, 0.95), fused=True)
    ramp = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / ramp, 0.55 + 0.45 * math.cos(math.pi * step / steps)),
    )
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(len(text) - context, (steps, batch), generator=generator)
    losses: list[Tensor] = []
    clock = time.perf_counter()
    for step, sample in enumerate(samples(text, starts, context)):
        if step == WARM_UP_STEPS:
            _finish(device)
            print(f"  compiled, measured and warm after {time.perf_counter() - clock:.0f} s")
            clock = time.perf_counter()
        loss = loss_and_graph(model, sample)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        if (step + 1) % max(1, steps // 10) == 0:
            print(f"  step {step + 1:5,} of {steps:,}: loss {loss.item():.3f}", flush=True)
    _finish(device)
    seconds = time.perf_counter() - clock
    return {
        "tokens_per_second": (steps - WARM_UP_STEPS) * batch * context / seconds,
        "losses": torch.stack(losses).tolist(),
    }


@torch.no_grad()
def validate(model: nn.Module, text: Tensor, context: int, batch: int) -> float:
    """Return the loss on samples spread evenly over a text."""
    starts = torch.linspace(0, len(text) - context - 1, 8 * batch).long().view(8, batch)
    return sum(loss_of(model, s).item() for s in samples(text, starts, context)) / len(starts)


def methods(model: LanguageModel, tokens: int) -> dict[str, dict[str, str]]:
    """By which method each function of the first block's junctions is computed; all are alike."""
    layers = {n: m for n, m in model.blocks[0].named_modules() if isinstance(m, SparseLinear)}
    dtype = torch.bfloat16 if model.position.is_cuda else torch.float32
    return {
        name: {
            function: str(decision.method)
            for function, decision in explain(layer, tokens, dtype).decisions.items()
        }
        for name, layer in layers.items()
    }


def draw(variants: dict[str, Any], tokens: int, path: Path) -> None:
    """Draw losses, means of 10 steps, over steps and over seconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, label in zip(figure.subplots(1, 2, sharey=True), ("steps", "seconds"), strict=True):
        for name, record in variants.items():
            losses = torch.tensor(record["losses"]).unfold(0, 10, 1).mean(1)
            rate = record["tokens_per_second"] / tokens if label == "seconds" else 1.0
            axes.plot(torch.arange(10, 10 + len(losses)) / rate, losses, label=name)
        axes.set(xlabel=label, ylabel="loss, nats per byte", yscale="log")
    axes.legend()
    figure.savefig(path)


def earlier(file: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the variants that a file holds of these arguments. ValueError for anything else."""
    if not file.exists():
        return {}
    try:
        before = json.loads(file.read_text())
        if before["arguments"] == arguments:
            variants: dict[str, Any] = before["variants"]
            return variants
        holds = f"results of other arguments ({before['arguments']}, now {arguments})"
    except (KeyError, TypeError, ValueError):
        holds = "something else than results of this program"
    raise ValueError(f"{file} holds {holds}; choose another --out, or remove it")


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main(
    layers: int = 4,
    width: int = 2048,
    context: int = 1024,
    batch: int = 16,
    steps: int = 300,
    rate: float = 6e-4,
    density: float = 1 / 8,
    block: int = 64,
    text: Annotated[Path | None, typer.Option(help="A file to learn; .gz too.")] = None,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile")] = True,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the results.")] = None,
) -> None:
    """Train each variant from the same seed; print, and with --out write, speeds and losses."""
    if steps < 2 * WARM_UP_STEPS:
        raise ValueError(f"{steps} steps, {WARM_UP_STEPS} of them to warm up; take 10 or more")
    arguments = {name: value for name, value in locals().items() if name != "out"}
    arguments["text"] = "standard library" if text is None else text.name
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arguments["device"] = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    learned, kept = split(corpus(text).to(device), context)
    variants = {} if out is None else earlier(out, arguments)
    for name, sparse in VARIANTS.items():
        if name not in variants:
            print(f"{name}:", flush=True)
            torch.compiler.reset()
            torch.manual_seed(0)
            with device:
                model = LanguageModel(layers, width, context)
            if sparse:
                # weights of the edges start as dense ones, times sqrt(n_in / fan_in)
                densities = dict.fromkeys(sparse, density)
                sparsify(model, densities, block=block, keep_weights=True, rescale=True)
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            record = train(model, learned, context, batch, steps, rate, compiled)
            if device.type == "cuda":
                record["peak_bytes"] = torch.cuda.max_memory_allocated()
            record["parameters"] = sum(parameter.numel() for parameter in model.parameters())
            record["validation_loss"] = validate(model, kept, context, batch)
            record["methods"] = methods(model, batch * context)
            variants[name] = record
            del model
        record = variants[name]
        speedup = record["tokens_per_second"] / variants["dense"]["tokens_per_second"]
        print(
            f"{name}: {record['parameters']:,} parameters, {record['tokens_per_second']:,.0f} "
            f"tokens/s ({speedup:.2f} times dense), "
            f"validation loss {record['validation_loss']:.3f}"
        )
        if out is not None:
            result = {"arguments": arguments, "variants": variants}
            write_atomic(out, (json.dumps(result, indent=1) + "\n").encode())
    if out is not None and is_installed("matplotlib"):
        draw(variants, batch * context, out.with_suffix(".png"))
    elif out is not None:
        print(f"no picture: {install_line('matplotlib')}")


if __name__ == "__main__":
    typer.run(main)

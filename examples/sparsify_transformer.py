"""Train torch's own transformer encoder with sparse feed-forward layers for one epoch.

The task is made up here: a sequence of digits, and for each position the largest digit so far.
"""

import time

import torch
from torch import Tensor, nn

from dnc_sparse.nn import conversion_report, sparsify

DIGITS, LENGTH, WIDTH = 10, 12, 64
SAMPLES, BATCH = 4096, 64


class Tagger(nn.Module):
    """Scores one of ten digits for each position: [batch, length] -> [batch, length, digits]."""

    def __init__(self) -> None:
        super().__init__()
        self.digit = nn.Embedding(DIGITS, WIDTH)
        self.position = nn.Parameter(torch.randn(LENGTH, WIDTH) / 8)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.scores = nn.Linear(WIDTH, DIGITS)

    def forward(self, digits: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
        hidden = self.encoder(self.digit(digits) + self.position, mask=mask, is_causal=True)
        scores: Tensor = self.scores(hidden)
        return scores


def main() -> None:
    """Train for one epoch and print the report, the time and the accuracy on fresh sequences."""
    torch.manual_seed(0)
    # the last layer is small and sees every decision: it stays dense
    model = sparsify(Tagger(), density=1 / 4, skip=["scores"])
    print(conversion_report(model))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    digits = torch.randint(DIGITS, (SAMPLES, LENGTH))
    largest = digits.cummax(dim=1).values
    start = time.perf_counter()
    for x, y in zip(digits.split(BATCH), largest.split(BATCH), strict=True):
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    test = torch.randint(DIGITS, (512, LENGTH))
    with torch.no_grad():
        right = model.eval()(test).argmax(dim=2) == test.cummax(dim=1).values
    print(f"one epoch in {seconds:.1f} s; accuracy on fresh sequences: {right.float().mean():.2%}")


if __name__ == "__main__":
    main()

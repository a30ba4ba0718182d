"""Letters and digits of a small pixel font, bent and noisy: pictures that are generated.

One glyph of 5 x 7 cells to a picture of 28 x 28 pixels. It is scaled, slanted, turned, moved and
bent, drawn with its brightness, and noise is added to every pixel.

| name   | meaning                                                     | shape               |
|--------|-------------------------------------------------------------|---------------------|
| cells  | ink of each glyph, with a margin of empty cells             | [classes, 17, 15]   |
| across | cells from the glyph's middle to what a pixel shows, right  | [count, 28, 28]     |
| down   | the same, downwards                                         | [count, 28, 28]     |
| grid   | cells by which the nodes of a 4 x 4 grid are pushed         | [count, 4, 4]       |
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dnc_sparse.data.dataset import DataSet, Split
from dnc_sparse.data.tensors import tensor

FONT = """
0 01110 10001 10011 10101 11001 10001 01110
1 00100 01100 00100 00100 00100 00100 01110
2 01110 10001 00001 00110 01000 10000 11111
3 11111 00010 00100 00010 00001 10001 01110
4 00010 00110 01010 10010 11111 00010 00010
5 11111 10000 11110 00001 00001 10001 01110
6 00110 01000 10000 11110 10001 10001 01110
7 11111 00001 00010 00100 01000 01000 01000
8 01110 10001 10001 01110 10001 10001 01110
9 01110 10001 10001 01111 00001 00010 01100
A 00100 01010 10001 10001 11111 10001 10001
B 11110 10001 10001 11110 10001 10001 11110
C 01110 10001 10000 10000 10000 10001 01110
D 11100 10010 10001 10001 10001 10010 11100
E 11111 10000 10000 11110 10000 10000 11111
F 11111 10000 10000 11110 10000 10000 10000
G 01110 10001 10000 10111 10001 10001 01110
H 10001 10001 10001 11111 10001 10001 10001
I 11111 00100 00100 00100 00100 00100 11111
J 00111 00010 00010 00010 00010 10010 01100
K 10001 10010 10100 11000 10100 10010 10001
L 10000 10000 10000 10000 10000 10000 11111
M 10001 11011 10101 10101 10001 10001 10001
N 10001 11001 11001 10101 10011 10011 10001
O 01110 10001 10001 10001 10001 10001 01110
P 11110 10001 10001 11110 10000 10000 10000
Q 01110 10001 10001 10001 10101 10010 01101
R 11110 10001 10001 11110 10100 10010 10001
S 01111 10000 10000 01110 00001 00001 11110
T 11111 00100 00100 00100 00100 00100 00100
U 10001 10001 10001 10001 10001 10001 01110
V 10001 10001 10001 10001 10001 01010 00100
W 10001 10001 10001 10101 10101 11011 10001
X 10001 10001 01010 00100 01010 10001 10001
Y 10001 10001 01010 00100 00100 00100 00100
Z 11111 00001 00010 00100 01000 10000 11111
"""
NAMES = tuple(line[0] for line in FONT.split("\n") if line)
SIDE = 28
PIXELS_PER_CELL = 3
SAMPLES = 20_000
NOISE = 25
# 3/5 to train, 1/5 to validate, 1/5 to test
SHARES = 5
MOST_NOISE = 100
MARGIN = 5
# tangent of half the largest angle, 28 degrees; that of half an angle needs no sine, whose last
# bit depends on the processor
TURN = 0.25
SLANT = 0.3
SIZES = (0.7, 1.15)
MOVE_PIXELS = 3.0
BEND_CELLS = 0.4
FAINTEST = 0.6
# edges are sharpened to about a pixel, as of a pen
SHARPNESS = 1.6
# the sum of so many bytes is near a normal number of mean 510 and this deviation
NOISE_BYTES = 4
NOISE_DEVIATION = 147.8
# small enough that the arrays of a step stay in cache
AT_ONCE = 500

Floats = NDArray[np.float32]


def glyphs(*, samples: int = SAMPLES, noise: int = NOISE, seed: int = 0) -> DataSet:
    """Draw pictures of 28 x 28 grey pixels in [0, 1] of the digits and capital letters, 36 classes.

    Of the samples a fifth validates, a fifth tests and the rest trains; in each split the counts
    of the classes differ by one at most and the order is random. `noise` is the standard deviation
    of the noise on every pixel, in hundredths of white. Values are multiples of 1/255. Equal
    arguments give equal sets, on every processor.

    Raises ValueError for fewer samples than give each class one in every split, and for noise
    outside 0..100.
    """
    least = SHARES * len(NAMES)
    if samples < least:
        raise ValueError(
            f"{samples} samples cannot show each of {len(NAMES)} glyphs in train, validation and "
            f"test; choose {least} or more"
        )
    if not 0 <= noise <= MOST_NOISE:
        raise ValueError(
            f"noise {noise} must be within 0..{MOST_NOISE}, in hundredths of white; "
            f"the default is {NOISE}"
        )
    if seed < 0:
        raise ValueError(f"seed {seed} must not be negative; choose 0 or more")
    rng = np.random.Generator(np.random.PCG64(seed))
    part = samples // SHARES
    train, validation, test = (
        _split(size, noise, rng) for size in (samples - 2 * part, part, part)
    )
    return DataSet("glyphs", train, test, validation, len(NAMES), NAMES, (SIDE, SIDE))


def _split(size: int, noise: int, rng: np.random.Generator) -> Split:
    labels = (np.arange(size) % len(NAMES))[rng.random(size).argsort(kind="stable")]
    cells = _cells()
    x = np.empty((size, SIDE * SIDE), np.float32)
    for start in range(0, size, AT_ONCE):
        shown = labels[start : start + AT_ONCE]
        ink = _ink(cells, shown, *_positions(len(shown), rng))
        ink *= _uniform(rng, len(shown), FAINTEST, 1)
        ink += _noise(ink.shape, noise, rng)
        grey = np.round(ink.clip(0, 1) * np.float32(255)) / np.float32(255)
        x[start : start + len(shown)] = grey.reshape(len(shown), -1)
    return Split(tensor(x), tensor(labels.astype(np.int64)))


def _cells() -> Floats:
    """Ink of each glyph, 0 or 1, in the middle of empty cells."""
    rows = [line.split()[1:] for line in FONT.split("\n") if line]
    bits = np.array([[list(map(int, row)) for row in glyph] for glyph in rows], np.float32)
    return np.pad(bits, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))


def _uniform(rng: np.random.Generator, count: int, low: float, high: float) -> Floats:
    """One number for each picture: [count, 1, 1]."""
    return (low + (high - low) * rng.random((count, 1, 1))).astype(np.float32)


def _positions(count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw how each picture is distorted: across and down, in cells from the glyph's middle."""
    half = _uniform(rng, count, -TURN, TURN)
    slant = _uniform(rng, count, -SLANT, SLANT)
    width, height = (_uniform(rng, count, *SIZES) * PIXELS_PER_CELL for _ in range(2))
    right, below = (_uniform(rng, count, -MOVE_PIXELS, MOVE_PIXELS) for _ in range(2))
    pixels = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    x, y = pixels[None, None, :] - right, pixels[None, :, None] - below
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    down = cosine * y - sine * x
    across = (cosine * x + sine * y + slant * down) / width
    down /= height
    across += _bend(count, rng)
    down += _bend(count, rng)
    return across, down


def _bend(count: int, rng: np.random.Generator) -> Floats:
    """Push the nodes of a grid by chance and every pixel by the nodes around it."""
    grid = ((2 * rng.random((count, 4, 4)) - 1) * BEND_CELLS).astype(np.float32)
    place = np.arange(SIDE, dtype=np.float32) * np.float32(3 / (SIDE - 1))
    node = np.minimum(place.astype(np.intp), 2)
    share = place - node.astype(np.float32)
    rows = grid[:, node] * (1 - share)[:, None] + grid[:, node + 1] * share[:, None]
    pushed: Floats = rows[:, :, node] * (1 - share) + rows[:, :, node + 1] * share
    return pushed


def _ink(cells: Floats, labels: NDArray[np.int64], across: Floats, down: Floats) -> Floats:
    """Look up the ink between the four cells nearest to each pixel: [count, 28, 28] in [0, 1]."""
    _, height, width = cells.shape
    across = (across + np.float32((width - 1) / 2)).clip(0, np.float32(width - 1.01))
    down = (down + np.float32((height - 1) / 2)).clip(0, np.float32(height - 1.01))
    column, row = across.astype(np.int32), down.astype(np.int32)
    right, below = across - column.astype(np.float32), down - row.astype(np.float32)
    flat = cells.ravel()
    at = (labels.astype(np.int32) * (height * width))[:, None, None] + row * width + column
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    at += width
    lower = flat[at] * (1 - right) + flat[at + 1] * right
    ink: Floats = upper * (1 - below) + lower * below - np.float32(0.5)
    return (ink * np.float32(SHARPNESS) + np.float32(0.5)).clip(0, 1)


def _noise(shape: tuple[int, ...], noise: int, rng: np.random.Generator) -> Floats:
    """Near normal numbers; bytes, unlike numpy's normal numbers, are exact on every processor."""
    drawn = np.frombuffer(rng.bytes(NOISE_BYTES * int(np.prod(shape))), np.uint8)
    total = drawn.reshape(NOISE_BYTES, *shape).sum(axis=0, dtype=np.uint16)
    level: Floats = total.astype(np.float32) - np.float32(255 * NOISE_BYTES / 2)
    level *= np.float32(noise / 100 / NOISE_DEVIATION)
    return level

"""Glyphs: the font, what is drawn of it, and that equal arguments give equal pictures."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch

from dnc_sparse.data import DataSet, glyph_images, glyphs, load

A = """
..#..
.#.#.
#...#
#...#
#####
#...#
#...#
"""


def grey(data: DataSet) -> torch.Tensor:
    """All pixels as whole numbers from 0 to 255, split after split."""
    return torch.cat([(split.x * 255).round() for split in data.splits.values()]).to(torch.uint8)


def test_the_font_has_each_letter_and_digit_once() -> None:
    lines = glyph_images.FONT.split("\n")[1:-1]
    assert "".join(glyph_images.NAMES) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    shapes = [tuple(line.split()[1:]) for line in lines]
    assert {len(shape) for shape in shapes} == {7}
    assert all(len(row) == 5 and set(row) <= {"0", "1"} for shape in shapes for row in shape)
    assert len(set(shapes)) == 36
    drawn = "\n".join(shapes[10]).replace("0", ".").replace("1", "#")
    assert drawn == A.strip()


def test_an_undistorted_picture_shows_the_font(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TURN", "SLANT", "MOVE_PIXELS", "BEND_CELLS"):
        monkeypatch.setattr(glyph_images, name, 0.0)
    monkeypatch.setattr(glyph_images, "SIZES", (1.0, 1.0))
    data = glyphs(samples=180, noise=0)
    lines = [line.split()[1:] for line in glyph_images.FONT.split("\n") if line]
    for x, label in zip(data.train.x, data.train.y.tolist(), strict=True):
        picture = x.reshape(28, 28)
        bits = torch.tensor([[int(bit) for bit in row] for row in lines[label]])
        # a cell is three pixels, its middle on a corner of pixels: 13.5 for the middle cell
        near = [picture[4 + i : 25 : 3, 7 + j : 22 : 3][:7, :5] for i in (0, 1) for j in (0, 1)]
        level = picture.max()
        assert 0.6 <= level <= 1
        for part in near:
            assert torch.equal((part > level / 2).int(), bits.int())
        assert not picture[:3].any()
        assert not picture[:, :5].any()


# recorded on x86-64 with numpy 2
LABELS = [27, 21, 17, 11, 22, 7, 24, 16, 32, 9, 6, 25]
ROW = [226, 175, 95, 135, 75, 230, 212, 190, 139, 204, 160, 147]
DIGEST = "e068e7a85a9a7acdfa98bc042237e63496ed26e82766edec3dca6d7b048685ff"


def test_pictures_are_the_recorded_ones() -> None:
    data = glyphs(samples=1800)
    pixels = grey(data)
    digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    assert data.train.y[:12].tolist() == LABELS
    assert pixels[0].reshape(28, 28)[14, 8:20].tolist() == ROW
    assert digest == DIGEST


def test_values_are_grey_levels_of_a_byte() -> None:
    data = glyphs(samples=360)
    for split in data.splits.values():
        assert torch.equal(split.x, (split.x * 255).round() / 255)
        assert float(split.x.min()) == 0
        assert float(split.x.max()) == 1


@pytest.mark.parametrize(("samples", "sizes"), [(180, (108, 36, 36)), (1999, (1201, 399, 399))])
def test_sizes_and_balance(samples: int, sizes: tuple[int, ...]) -> None:
    data = load("glyphs", samples=samples)
    assert data.image_shape == (28, 28)
    assert data.class_names == glyph_images.NAMES
    assert tuple(len(split) for split in data.splits.values()) == sizes
    for split in data.splits.values():
        counts = torch.bincount(split.y, minlength=36)
        assert int(counts.min()) >= 1
        assert int(counts.max() - counts.min()) <= 1
        assert not torch.equal(split.y, split.y.sort().values)


def test_no_picture_is_in_two_splits() -> None:
    for noise in (0, 30):
        data = glyphs(samples=3000, noise=noise)
        assert len(np.unique(grey(data).numpy(), axis=0)) == 3000


def test_seeds_give_other_sets_and_the_same_seed_the_same() -> None:
    first, again, other = (glyphs(samples=180, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(grey(first), grey(again))
    assert torch.equal(first.train.y, again.train.y)
    assert not torch.equal(grey(first), grey(other))
    assert not torch.equal(first.train.y, other.train.y)


@pytest.mark.parametrize("noise", [10, 30])
def test_noise_has_the_deviation_asked_for(noise: int) -> None:
    clean, noisy = (glyphs(samples=720, noise=level).train for level in (0, noise))
    assert torch.equal(clean.y, noisy.y)
    # half of the noise on empty pixels is below zero and clipped
    empty = noisy.x[clean.x == 0].double()
    assert float((empty > 0).double().mean()) == pytest.approx(0.5, abs=0.01)
    assert float(empty.square().mean()) == pytest.approx((noise / 100) ** 2 / 2, rel=0.02)


def test_pictures_differ_in_place_and_brightness() -> None:
    data = glyphs(samples=3600, noise=0)
    pictures = data.train.x.reshape(-1, 28, 28)
    peak = pictures.amax((1, 2))
    assert float(peak.min()) == pytest.approx(0.6, abs=0.02)
    assert float(peak.max()) == pytest.approx(1, abs=0.01)
    mass = pictures / pictures.sum((1, 2), keepdim=True)
    across = (mass.sum(1) * torch.arange(28.0)).sum(1)
    of_i = across[data.train.y == data.class_names.index("I")]
    # the middle of the frame, and a move of -3..3 pixels, 3 / sqrt(3) the deviation
    assert float(of_i.mean()) == pytest.approx(13.5, abs=0.7)
    assert 1.4 < float(of_i.std()) < 2.4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"samples": 179},
            r"^179 samples cannot show each of 36 glyphs in train, validation and test; choose 180",
        ),
        ({"samples": -5}, r"^-5 samples cannot show each of 36 glyphs"),
        (
            {"noise": -1},
            r"^noise -1 must be within 0..100, in hundredths of white; the default is ",
        ),
        ({"noise": 101}, r"^noise 101 must be within 0..100, in hundredths of white; the default "),
        ({"noise": 0.3}, r"^noise must be a whole number, got 0\.3$"),
        ({"seed": -1}, r"^seed -1 must not be negative; choose 0 or more$"),
        ({"samples": "many"}, r"^samples must be a whole number, got 'many'$"),
        (
            {"samples_per_class": 9},
            r"^glyphs takes no option samples_per_class; its options: samples, noise, seed$",
        ),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("glyphs", **options)

"""Clash checks, balance, scatter against the published code's figures, and the picture."""

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from dnc_sparse.patterns import (
    Pattern,
    balance,
    clash_free,
    clashes,
    cyclic,
    find_clashes,
    from_mask,
    random,
    regular,
    scatter,
    windows_1d,
    windows_2d,
)
from dnc_sparse.patterns.plot import plot, save

JUNCTIONS = ((64, 1024), (1024, 64))
SEED_SPREAD = 0.02


def morse(family: object, **options: object) -> np.ndarray:
    """Scatter vectors of the Morse network, fan_out (128, 8), of eight draws: [8, 6]."""
    vectors = []
    for seed in range(8):
        banks = options.get("banks", (None, None))
        patterns = [
            family(n_in, n_out, density=1 / 8, seed=2 * seed + i, **options | own)
            for i, (n_in, n_out) in enumerate(JUNCTIONS)
            for own in [{"banks": banks[i]} if banks[i] else {}]
        ]
        vectors.append(scatter(*patterns).vector)
    return np.array(vectors)


# notes/predefined_sparsity.md, section 2: the published code's values for single draws
@pytest.mark.parametrize(
    ("options", "published"),
    [
        ({"kind": 3, "banks": (8, 64)}, (0.625, 1, 0.656, 1, 1, 1)),
        ({"kind": 2, "banks": (8, 64)}, (0.655, 1, 0.670, 1, 0.912, 0.912)),
        ({"kind": 2, "dither": True, "banks": (8, 64)}, (0.672, 1, 0.681, 1, 0.913, 0.913)),
        ({"kind": 1, "banks": (64, 64)}, (0.125, 1, 0.665, 1, 1, 1)),
    ],
)
def test_scatter_of_clash_free_patterns(
    options: dict[str, object], published: tuple[float, ...]
) -> None:
    vectors = morse(clash_free, bank_map="interleaved", **options)
    assert (vectors.min(axis=0) - SEED_SPREAD <= published).all()
    assert (vectors.max(axis=0) + SEED_SPREAD >= published).all()


def test_scatter_of_regular_patterns() -> None:
    published = (0.678, 0.641, 0.651, 0.622, 0.913, 0.913)
    assert morse(regular).mean(axis=0) == pytest.approx(published, abs=SEED_SPREAD)


def test_scatter_of_random_patterns_is_binomial() -> None:
    expected = 1 - (7 / 8) ** 8
    assert morse(random).mean(axis=0)[:4] == pytest.approx([expected] * 4, abs=SEED_SPREAD)


def test_scatter_of_block_diagonal_patterns() -> None:
    ones = np.kron(np.eye(8, dtype=bool), np.ones((128, 8), dtype=bool))
    result = scatter(from_mask(ones), from_mask(ones.T))
    assert result.vector == pytest.approx([0.125] * 6)
    assert result.minimum == pytest.approx(0.125)


def test_scatter_of_one_junction_and_of_none() -> None:
    full = random(6, 4, density=1)
    assert scatter(full).vector == (1, 1)
    assert scatter(random(6, 4, density=0)).vector == (0, 0)
    with pytest.raises(ValueError, match=r"^scatter needs at least one pattern$"):
        scatter()


def test_scatter_takes_windows() -> None:
    pattern = from_mask(np.eye(16, dtype=bool))
    rows = windows_1d(16, 4, 4)
    assert scatter(pattern, windows=[(rows, rows), None]).vector == (0.25, 0.25)
    image = windows_2d(4, 4, (2, 2))
    # inner pixels are in 4 of the 9 windows, edges in 2, corners in 1: 36 hits of 16 * 9 * 1/4
    assert scatter(pattern, windows=[(image, rows), None]).vector[0] == pytest.approx(0.25)


def test_windows() -> None:
    assert windows_1d(5, 2, 2).tolist() == [[0, 1], [2, 3]]
    assert windows_2d(3, 3, (2, 2)).tolist() == [
        [0, 1, 3, 4],
        [1, 2, 4, 5],
        [3, 4, 6, 7],
        [4, 5, 7, 8],
    ]
    assert windows_2d(32, 32, (4, 4)).shape == (29 * 29, 16)
    assert windows_2d(4, 6, (2, 3), (2, 3)).shape == (4, 6)


def test_scatter_refuses() -> None:
    one, two = random(4, 6, density=1), random(5, 4, density=1)
    message = (
        "^junction 1 ends in 6 neurons but junction 2 starts from 5; "
        "give the patterns from input to output$"
    )
    with pytest.raises(ValueError, match=message):
        scatter(one, two)
    message = (
        r"^1 junctions take 2 pairs of windows \(the last for the equivalent junction\), got 1$"
    )
    with pytest.raises(ValueError, match=message):
        scatter(one, windows=[None])
    message = "^windows of width 6 and stride 1 do not fit 5 neurons; choose a width in 1..5 and"
    with pytest.raises(ValueError, match=message):
        windows_1d(5, 6)
    message = "^windows 2x9 with stride 1x1 do not fit an image of 4x4; choose a smaller window"
    with pytest.raises(ValueError, match=message):
        windows_2d(4, 4, (2, 9))


def test_clashes_are_listed() -> None:
    # cycles (0, 1), (2, 3), (4, 4) of banks {0, 1, 2} and {3, 4, 5}
    assert clashes([0, 1, 2, 3, 4, 4], 6, 2) == [(0, 0, 2), (2, 1, 2)]
    assert clashes([0, 1, 2, 3, 4, 4], 6, 2, "interleaved") == [(2, 0, 2)]
    assert clashes([], 6, 2) == []
    message = "^6 left blocks cannot be divided into 4 equal parts; choose a divisor of 6$"
    with pytest.raises(ValueError, match=message):
        clashes([0], 6, 4)


def test_find_clashes() -> None:
    pattern = clash_free(64, 32, density=0.25, banks=8)
    assert find_clashes(pattern) == []
    assert find_clashes(pattern, banks=4) != []
    assert find_clashes(pattern, bank_map="interleaved") != []
    assert find_clashes(cyclic(64, 32, density=0.25)) == []
    assert find_clashes(random(64, 32, density=0.25), banks=8) != []
    assert find_clashes(random(64, 32, density=0), banks=8) == []


def test_balance_reports_any_pattern() -> None:
    report = balance(clash_free(1024, 1024, density=1 / 8))
    assert (report.banks, report.ranges, report.exact) == (32, 32, True)
    assert report.per_output == report.per_input == (4, 4)
    report = balance(random(64, 32, density=0.25), banks=4, ranges=2)
    assert not report.exact
    assert report.per_output[0] < 4 < report.per_output[1]
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0]])
    report = balance(from_mask(mask), banks=2, ranges=2)
    assert (report.per_output, report.per_input) == ((0, 2), (0, 1))
    report = balance(from_mask(np.kron(mask, np.ones((2, 3))), block=(2, 3)), banks=2, ranges=2)
    assert (report.per_output, report.per_input) == ((0, 6), (0, 2))
    assert balance(random(4, 4, density=0)).exact
    message = "^2 right blocks cannot be divided into 3 equal parts; choose a divisor of 2$"
    with pytest.raises(ValueError, match=message):
        balance(from_mask(mask), ranges=3)


@pytest.mark.parametrize(
    "pattern",
    [
        clash_free(9, 6, fan_out=2, banks=3),
        clash_free(600, 300, density=0.1, bank_map="interleaved", block=2),
        random(300, 7, density=0.2),
        random(3, 2, density=0),
    ],
    ids=repr,
)
def test_plot_draws_every_edge(pattern: Pattern) -> None:
    mpl.use("agg")
    ax = pattern.plot()
    picture = ax.images[0].get_array()
    assert picture.mean() == pytest.approx(pattern.density, abs=0.01)
    if max(picture.shape) < 256:
        assert np.array_equal(picture == 1, pattern.mask())
    assert ax.child_axes[0].get_title().startswith(pattern.spec["family"])
    ax.figure.canvas.draw()
    plt.close(ax.figure)


def test_plot_marks_banks_on_given_axes() -> None:
    figure, ax = plt.subplots()
    assert plot(clash_free(9, 6, fan_out=2, banks=3), ax) is ax
    assert [line.get_xdata()[0] for line in ax.lines] == [2.5, 5.5]
    plt.close(figure)


def test_plot_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    message = r"^drawing a pattern needs matplotlib: pip install 'dnc-sparse\[plot\]'$"
    with pytest.raises(ImportError, match=message):
        random(3, 2, density=1).plot()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=message):
        save(random(3, 2, density=1), Path("pattern.png"))


def test_saved_in_the_format_of_the_suffix(tmp_path: Path) -> None:
    shown = plt.get_fignums()
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        path = tmp_path / f"pattern.{suffix}"
        save(clash_free(9, 6, fan_out=2, banks=3), path)
        assert path.read_bytes().startswith(start)
    assert plt.get_fignums() == shown

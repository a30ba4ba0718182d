"""The model of the Triton kernels' times, by hand where it can be done; it needs no Triton."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from dnc_sparse.backends import tile_model, tiles, triton
from dnc_sparse.backends.tile_model import Product
from dnc_sparse.backends.tiles import Gpu, Tile
from dnc_sparse.bench import block_predictions, triton_predictions
from dnc_sparse.patterns import Pattern, clash_free, from_mask

H200 = Gpu((9, 0), 132)
BATCH = 2**14
DEVICE = torch.device("meta")


def junction(block: int, inverse_density: int) -> Pattern:
    return clash_free(4096, 4096, density=1 / inverse_density, block=block, seed=1)


# compiled kernels are compared with it in test_triton_compiled.py
@pytest.mark.parametrize(
    ("rows", "columns", "warps", "expected"),
    [
        (64, 32, 8, 16),  # two warpgroups for one 64 rows: each takes half of the columns
        (64, 32, 4, 32),
        (128, 64, 8, 64),
        (64, 16, 8, 8),
        (512, 64, 8, 64),
        (64, 512, 4, 256),
    ],
)
def test_warpgroups_without_rows_share_the_columns(
    rows: int, columns: int, warps: int, expected: int
) -> None:
    assert Product(rows, columns, 16, warps).instruction_columns == expected


def test_narrow_instructions_wait_for_shared_memory() -> None:
    # 2 instructions read (64 + 16) x 16 numbers of 2 bytes at 128 bytes a cycle
    split = Product(64, 32, 16, 8)
    assert (split.multiplying(2, False), split.reading(2, False)) == (16, 40)
    whole = Product(64, 32, 16, 4)
    assert (whole.multiplying(2, False), whole.reading(2, False)) == (16, 24)
    assert whole.multiplying(4, True) == 64 * 32 * 16 / 128


def test_a_program_alone_pays_for_what_it_cannot_overlap() -> None:
    tile = Tile("fused", 32, 64, 512, 8, 4, parts=2)
    side = tiles.side_of(junction(64, 8), transposed=True)
    # products: 8 x 128 x 32 and 2 x 80 x 512 numbers read; a result and 9 copies to a thread
    alone = 512 + 1280 + (200 + 8 * 3 * 2) + 9 * 13 * 2
    panel = 512 * 64 * 2 / (tile_model.L2_BYTES_PER_SECOND / tile_model.MULTIPROCESSOR_HERTZ)
    expected = BATCH / 32 / 2 * alone + 900 + panel
    assert tile_model.cycles(tile, side, 2, BATCH, H200, False) == pytest.approx(expected)


def test_two_programs_fill_each_others_gaps() -> None:
    tile = Tile("fused", 32, 64, 256, 4, 3, parts=4)
    side = tiles.side_of(junction(64, 16), transposed=True)
    assert tile.together(2, H200, False) == 2
    # both read 4 x 128 x 32 and 96 x 256 numbers and write 32 x 320 to shared memory
    step = (4 * 128 * 32 + 96 * 256 + 32 * 320) * 2 / 128
    panel = 256 * 64 * 2 / (tile_model.L2_BYTES_PER_SECOND / tile_model.MULTIPROCESSOR_HERTZ)
    expected = 2 * (BATCH / 32 / 4 * step) + 900 + panel
    assert tile_model.cycles(tile, side, 2, BATCH, H200, False) == pytest.approx(expected)


def test_faster_l2_helps_what_waits_for_it() -> None:
    pattern = junction(64, 2)
    side = tiles.side_of(pattern, transposed=False)
    tile = Tile("streamed", 512, 64, 64, 8, 3)
    slow, fast = (
        tile_model.cycles(tile, side, 2, BATCH, H200, False, rate) for rate in (7.8e12, 12e12)
    )
    # from 2283 to 1600 a step, which is what shared memory takes then
    assert slow / fast == pytest.approx(2283 / 1600, rel=0.02)


def test_an_edge_free_pattern_takes_no_time() -> None:
    pattern = from_mask(torch.zeros(128, 128, dtype=torch.bool).numpy(), block=64)
    for tile, side in tiles.fitting("grad_weight", pattern, torch.bfloat16, BATCH, H200):
        assert tile_model.cycles(tile, side, 2, BATCH, H200, False) == 0


def test_pieces_of_the_batch_fill_the_gpu() -> None:
    for block, inverse_density in ((64, 8), (64, 16)):
        pattern = junction(block, inverse_density)
        for tile, side in tiles.fitting("backward", pattern, torch.bfloat16, BATCH, H200):
            programs = 128 * tile.together(2, H200, False)
            assert tiles.units_of(tile, side) * tile.parts == programs


@pytest.mark.parametrize(
    ("block", "inverse_density", "favourite"),
    [
        (64, 16, "fused 32x64x256, 4 warps, 3 stages, 4 parts"),
        (64, 8, "fused 32x64x512, 8 warps, 4 stages, 2 parts"),
        # two launches should be faster
        (128, 8, None),
        (64, 2, None),
    ],
)
def test_favourite_of_backward(
    block: int, inverse_density: int, favourite: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton, "_gpu", lambda device: H200)
    asked = (junction(block, inverse_density), torch.bfloat16, BATCH, DEVICE)
    candidates = triton.candidates("backward", *asked)
    assert (str(candidates[0]) if candidates else None) == favourite


def table_of(page: str, header: str) -> list[str]:
    """Return the lines of a page's table that begins so."""
    path = Path(__file__).parents[2] / "docs" / page
    if not path.exists():
        pytest.skip("the documentation is not beside these tests")
    table = re.search(rf"^{re.escape(header)}.*\n(?:\|.*\n)+", path.read_text(), re.MULTILINE)
    assert table, "no table of predictions"
    return table[0].splitlines()


def test_page_shows_what_is_predicted() -> None:
    header, *_ = triton_predictions.HEADER.splitlines()
    assert table_of("gpu-triton.md", header) == list(triton_predictions.rows())


def test_page_of_blocks_begins_with_what_is_predicted() -> None:
    _, _, *lines = table_of("gpu-blocks.md", "| b | density | forward e |")
    rows = list(block_predictions.rows())
    assert [line[: len(row)] for line, row in zip(lines, rows, strict=True)] == rows

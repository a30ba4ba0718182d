"""The block that a junction has where nobody asks for one."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dnc_sparse.nn import SparseLinear, SparseMLP, conversion_report, sparsify
from dnc_sparse.patterns import (
    allocate,
    allocate_blocks,
    choose_block,
    feasible_densities,
    from_mask,
    nearest,
    overall_density,
)


@pytest.mark.parametrize(
    ("n_in", "n_out", "density", "side"),
    [
        (784, 512, 1 / 8, 8),
        (512, 500, 1 / 8, 4),
        (784, 1000, 1 / 16, 8),
        (3072, 768, 1 / 8, 8),
        (512, 10, 1 / 8, 1),
        (1000, 30522, 0.1, 1),
        # 8x8: of 8 blocks a row 1, 2 and 4
        (64, 64, 1 / 8, 1),
        (64, 64, 1 / 4, 4),
        (64, 64, 1 / 2, 8),
        # 8x8: 8 blocks a row and 2 a column; 2 and 8
        (256, 64, 1 / 4, 8),
        (64, 256, 1 / 4, 4),
        # 8x8: 4 and 1; 1 and 4, and in 4x4 2 and 8
        (256, 64, 1 / 8, 4),
        (64, 256, 1 / 8, 1),
        # 4x4: 4 and 1
        (256, 64, 1 / 16, 1),
        # 8x8: 9.6 of 96 blocks become 10, 4.2 % more; 4.4 of 96 become 4, 9 % less
        (768, 768, 0.1, 8),
        (768, 768, 4.4 / 96, 4),
        # every edge is there, however few blocks
        (8, 8, 1.0, 8),
        (12, 4, 1.0, 4),
        # in 8x8 it would be full
        (64, 64, 0.97, 1),
        (784, 784, 0.97, 8),
    ],
)
def test_block_divides_both_sides_and_leaves_enough_of_them(
    n_in: int, n_out: int, density: float, side: int
) -> None:
    assert choose_block(n_in, n_out, density) == (side, side)


@pytest.mark.parametrize(
    ("family", "side"), [("auto", 8), ("regular", 8), ("clash_free", 1), ("cyclic", 1)]
)
def test_block_depends_on_what_the_family_can_have(family: str, side: int) -> None:
    # equal fan_outs of 784 -> 512 need multiples of 1/16 in single edges, of 1/2 in blocks of 8
    assert choose_block(784, 512, 1 / 8, family) == (side, side)
    drawn = nearest(784, 512, density=1 / 8, family=family, block="auto")
    assert drawn.block == (side, side)
    assert drawn.density == pytest.approx(1 / 8 if side == 1 else 12 / 98)


def test_random_patterns_have_any_number_of_blocks() -> None:
    # 4.4 of 96 blocks a row make 422.4 in all
    assert choose_block(768, 768, 4.4 / 96, "random") == (8, 8)
    drawn = nearest(768, 768, density=4.4 / 96, family="random", block="auto")
    assert (drawn.block, drawn.n_edges) == ((8, 8), 423 * 64)


@given(
    n_in=st.integers(1, 25).map(lambda n: n * 8),
    n_out=st.integers(1, 200),
    density=st.floats(1e-3, 1),
    family=st.sampled_from(["auto", "regular", "random", "clash_free", "cyclic"]),
)
@settings(max_examples=60, deadline=None)
def test_never_farther_than_a_warning_and_never_an_error(
    n_in: int, n_out: int, density: float, family: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        single = nearest(n_in, n_out, density=density, family=family)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        drawn = nearest(n_in, n_out, density=density, family=family, block="auto")
    if drawn.block == (1, 1):
        assert drawn == single
        return
    assert not said
    assert abs(drawn.density - density) <= 0.05 * density + 1e-12
    if drawn.density < 1 and family != "random":
        side = drawn.block[0]
        assert drawn.fan_ins.min() >= 4 * side
        assert drawn.fan_outs.min() >= 2 * side


def test_every_density_that_single_edges_have_exactly_stays_within_five_percent() -> None:
    for n_in, n_out in ((784, 512), (96, 144), (200, 80), (300, 64)):
        for density in feasible_densities(n_in, n_out):
            for family in ("auto", "clash_free"):
                drawn = nearest(n_in, n_out, density=density, family=family, block="auto")
                assert abs(drawn.density - density) <= 0.05 * density + 1e-12


@pytest.mark.parametrize(
    "choice",
    [
        {"fan_in": 64},
        {"fan_out": 32},
        {"density": 1 / 8, "banks": 64},
        {"density": 1 / 8, "kind": 2},
        {"density": 1 / 8, "dither": True},
        {"density": 1 / 8, "bank_map": "interleaved"},
    ],
)
def test_exact_degrees_and_options_of_the_hardware_have_single_edges(
    choice: dict[str, Any],
) -> None:
    layer = SparseLinear(512, 256, **choice)
    assert layer.pattern.block == (1, 1)
    assert layer.pattern == SparseLinear(512, 256, **choice, block=1).pattern
    assert SparseLinear(512, 256, **choice, block=8).pattern.block == (8, 8)


def test_masks_have_single_edges() -> None:
    mask = torch.zeros(16, 16)
    mask[:8, :8] = 1
    assert SparseLinear(16, 16, pattern=mask).pattern.block == (1, 1)
    ready = from_mask(mask, 4)
    assert SparseLinear(16, 16, pattern=ready).pattern is ready
    # a block that is asked for still cuts a mask
    assert SparseLinear(16, 16, pattern=mask, block=8).pattern.n_edges == 64


@pytest.mark.parametrize("block", ["8", "8x8", "Auto"])
def test_another_text_is_no_block(block: Any) -> None:
    text = rf"^unknown block '{block}'; give 'auto', one number, or \(bo, bi\)$"
    with pytest.raises(ValueError, match=text):
        SparseLinear(64, 64, 0.5, block=block)
    with pytest.raises(ValueError, match=text):
        SparseMLP((64, 64, 8), 0.5, block=block)
    with pytest.raises(ValueError, match=text):
        sparsify(nn.Sequential(nn.Linear(64, 64)), 0.5, block=block)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0, 8, 0.5), r"^a junction needs at least 1 neuron a side, got 0 -> 8$"),
        ((8, 8, 0.0), r"^density must be above 0 and at most 1, got 0$"),
        ((8, 8, 1.5), r"^density must be above 0 and at most 1, got 1\.5$"),
    ],
)
def test_choice_refuses_what_no_junction_has(numbers: tuple[Any, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        choose_block(*numbers)


def test_layers_say_their_block() -> None:
    for n_out, side in ((256, 8), (500, 4), (10, 1)):
        assert f", block={side}x{side}, " in repr(SparseLinear(512, n_out, 1 / 8))


def test_networks_have_a_block_per_junction() -> None:
    network = SparseMLP((784, 512, 500, 10), 1 / 8)
    assert [j.pattern.block for j in network.junctions] == [(8, 8), (4, 4), (1, 1)]  # type: ignore[union-attr]
    assert abs(network.density - 1 / 8) <= 0.05 / 8
    each = SparseMLP((784, 512, 10), (1 / 8, 1 / 2))
    assert [j.pattern.block for j in each.junctions] == [(8, 8), (1, 1)]  # type: ignore[union-attr]
    exact = SparseMLP((800, 100, 10), fan_out=(50, 10))
    assert exact.junctions[0].pattern.block == (1, 1)  # type: ignore[union-attr]
    hardware = SparseMLP((512, 512, 64), 1 / 4, family="clash_free", banks=32)
    assert {j.pattern.block for j in hardware.junctions} == {(1, 1)}  # type: ignore[union-attr]


@pytest.mark.parametrize("rule", ["uniform", "erdos_renyi", "later_denser"])
@pytest.mark.parametrize("exact", [False, True])
def test_allocation_keeps_each_share(rule: str, exact: bool) -> None:
    sizes = (784, 512, 256, 128, 10)
    single = allocate(sizes, 0.3, rule, 1, exact)
    chosen = allocate_blocks(sizes, 0.3, rule, "auto", exact)
    assert allocate(sizes, 0.3, rule, "auto", exact) == [fan_in for fan_in, _ in chosen]
    for before, (fan_in, (_, side)) in zip(single, chosen, strict=True):
        assert fan_in % side == 0
        # their own rounding is that of single edges or within 5 %
        assert side == 1 or abs(fan_in - before) <= 0.06 * before
    now = overall_density(sizes, [fan_in for fan_in, _ in chosen])
    assert abs(now - overall_density(sizes, single)) <= 0.05 * 0.3


def test_allocation_gives_whole_blocks_to_shares_that_are_whole() -> None:
    assert allocate_blocks((512, 512, 10), 1 / 8) == [(64, (8, 8)), (64, (1, 1))]
    assert allocate_blocks((512, 512, 10), 1 / 8, block=2) == [(64, (2, 2)), (64, (2, 2))]


def test_sparsify_chooses_and_reports_a_block_per_layer() -> None:
    model = nn.Sequential(nn.Linear(784, 512), nn.Linear(512, 500), nn.Linear(500, 10))
    report = conversion_report(sparsify(model, density=1 / 8))
    assert [layer.pattern.block for layer in model] == [(8, 8), (4, 4), (1, 1)]  # type: ignore[union-attr]
    assert [row.note.split(",")[0] for row in report.rows] == [
        "regular 8x8",
        "regular 4x4",
        "regular 1x1",
    ]


def test_sparsify_keeps_a_budget_in_blocks() -> None:
    for budget in (20_000, 33_333, 50_001, 123_456):
        model = nn.Sequential(nn.Linear(256, 512), nn.Linear(512, 300), nn.Linear(300, 50))
        report = conversion_report(sparsify(model, budget=budget))
        assert 0.95 * budget <= report.weights_after <= budget
        for row in report.replaced:
            assert row.asked is not None
            assert row.density == pytest.approx(row.asked)
    assert {layer.pattern.block for layer in model} == {(8, 8), (4, 4), (1, 1)}  # type: ignore[union-attr]


@pytest.mark.parametrize("choice", [{"family": "clash_free"}, {"family": "auto", "banks": 16}])
def test_a_budget_for_the_hardware_is_in_single_edges(choice: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 256))
    report = conversion_report(sparsify(model, budget=2 * 256 * 64, **choice))
    assert report.weights_after == 2 * 256 * 64
    assert {layer.pattern.block for layer in model} == {(1, 1)}  # type: ignore[union-attr]


@pytest.mark.parametrize("block", [1, 4])
def test_state_of_another_block_says_how_to_load_it(block: int) -> None:
    old = SparseLinear(64, 64, 1 / 2, block=block)
    new = SparseLinear(64, 64, 1 / 2)
    assert new.pattern.block == (8, 8)
    named = "block=1, the default before 'auto'" if block == 1 else "block=4"
    text = (
        rf"(?s).*the saved blocks are {block}x{block}, those of this layer 8x8: give {named}, or "
        rf"build the layer with the saved pattern \(SparseLinear\.from_state_dict does\)"
    )
    with pytest.raises(RuntimeError, match=text):
        new.load_state_dict(old.state_dict())
    x = torch.randn(3, 64)
    same = SparseLinear(64, 64, 1 / 2, block=block, seed=0)
    same.load_state_dict(old.state_dict())
    assert torch.equal(same(x), old(x))
    assert torch.equal(SparseLinear.from_state_dict(old.state_dict())(x), old(x))

"""The MLP spaces: published counts, presets and grids; sparse junctions as their sizes allow."""

from __future__ import annotations

import math
from typing import Any

import pytest
from torch import nn

from dnc_search.networks import Junction, nearest_junction
from dnc_search.space import Bayesian, Grid, Shape
from dnc_search.spaces import Mlp, SparseMlp
from dnc_search.spaces.presets import faithful
from dnc_sparse.nn import SparseLinear
from dnc_sparse.patterns import feasible_densities

MNIST = Shape(784, 10, image=(1, 28, 28))
RCV1 = Shape(2000, 50)


def parameters(space: Mlp | SparseMlp, shape: Shape, **config: Any) -> int:
    return space.plan(space.complete(config, shape), shape).n_parameters


@pytest.mark.parametrize(
    ("shape", "largest", "smallest"),
    [(MNIST, 478_410, 7_850), (RCV1, 980_850, 100_050)],
)
def test_published_counts(shape: Shape, largest: int, smallest: int) -> None:
    space = Mlp()
    assert parameters(space, shape) == largest
    assert parameters(space, shape, hidden_layers=0) == smallest
    # the formula of the largest network would subtract H^2 here
    assert parameters(Mlp(hidden_layers=(0, 0)), shape) == smallest


def test_none_is_the_largest_where_hidden_layers_are_narrow() -> None:
    assert Mlp(nodes=(1, 5)).largest(MNIST) == {"hidden_layers": 0}
    assert Mlp(nodes=(1, 12)).largest(MNIST)["hidden_layers"] == 2


def test_presets() -> None:
    config = Mlp().complete({"hidden_layers": 1, "nodes_1": 64}, MNIST)
    assert config == {
        "hidden_layers": 1,
        "nodes_1": 64,
        "activation": "relu",
        "dropout": 0.2,
        "learning_rate": 2e-3,
        "weight_decay": pytest.approx(50_890e-9),
        "batch_size": 128,
    }
    assert Mlp().complete({"hidden_layers": 0}, MNIST)["weight_decay"] == 0


def test_small_networks_have_no_preset_dropout() -> None:
    space = SparseMlp(dropout=0.1, dropout_from=10_000)
    small = {"hidden_layers": 1, "nodes_1": 64, "density_1": 0.1, "output_density": 1.0}
    large = {**small, "density_1": 1.0}
    assert parameters(space, MNIST, **space.complete(small, MNIST)) < 10_000
    assert space.complete(small, MNIST)["dropout"] == 0.0
    assert space.complete(large, MNIST)["dropout"] == 0.1
    # what is decided stays, whatever the size
    assert space.complete({**small, "dropout": 0.3}, MNIST)["dropout"] == 0.3
    exactly = parameters(space, MNIST, **large)
    assert SparseMlp(dropout=0.1, dropout_from=exactly).complete(large, MNIST)["dropout"] == 0.1


def stages(space: Mlp | SparseMlp, shape: Shape = MNIST) -> dict[str, Bayesian | Grid]:
    return {stage.name: stage for stage in space.stages(shape)}


def test_grids_try_what_is_new() -> None:
    found = stages(Mlp())
    grids = {name: grid for name, grid in found.items() if isinstance(grid, Grid)}
    config = Mlp().complete({"hidden_layers": 1, "nodes_1": 64}, MNIST)
    assert {name: grid.changes(config) for name, grid in grids.items()} == {
        "activation": [{"activation": "tanh"}, {"activation": "sigmoid"}],
        "dropout": [{"dropout": p} for p in (0.0, 0.1, 0.3, 0.4, 0.5)],
    }
    flat = Mlp().complete({"hidden_layers": 0}, MNIST)
    assert all(grid.changes(flat) == [] for grid in grids.values())


def test_kernels() -> None:
    config = {"hidden_layers": 2, "nodes_1": 100, "nodes_2": 300}
    by_layer = stages(Mlp())["architecture"].components  # type: ignore[union-attr]
    assert {c.name: (c.values(config), c.limits(0), c.exponent(1)) for c in by_layer} == {
        "hidden_layers": ((2.0,), (0.0, 2.0), 1.0),
        "nodes": ((100.0, 300.0), (20.0, 400.0), 1.0),
    }
    paper = stages(Mlp(kernel="paper"))["architecture"].components  # type: ignore[union-attr]
    assert {c.name: (c.values(config), c.limits(0), c.exponent(0)) for c in paper} == {
        "total nodes": ((400.0,), (0.0, 800.0), 0.5),
        "hidden_layers": ((2.0,), (0.0, 2.0), 1.0),
    }


def test_the_modules_of_an_mlp() -> None:
    config = Mlp().complete({"hidden_layers": 1, "nodes_1": 64, "activation": "tanh"}, MNIST)
    model = Mlp().build(config, MNIST, seed=0)
    assert [type(m) for m in model] == [  # type: ignore[arg-type]
        nn.Linear,
        nn.Tanh,
        nn.Dropout,
        nn.Linear,
    ]
    first = model[0]  # type: ignore[index]
    assert (first.bias == 0.1).all()
    assert first.weight.std().item() == pytest.approx((2 / 784) ** 0.5, rel=0.02)


SPARSE = {
    "hidden_layers": 2,
    "nodes_1": 128,
    "nodes_2": 64,
    "density_1": 0.1,
    "density_2": 0.5,
    "output_density": 1.0,
    "block": 4,
    "family": "auto",
}


def test_sparse_junctions_are_built_as_they_are_counted() -> None:
    space = SparseMlp(blocks=(1, 4))
    config = space.complete(SPARSE, MNIST)
    # 784 / 4 = 196 blocks, of which 0.1 is 19.6
    assert config["density_1"] == 20 / 196
    model = space.build(config, MNIST, seed=0)
    first, second, last = (m for m in model if isinstance(m, (nn.Linear, SparseLinear)))
    assert isinstance(first, SparseLinear)
    assert isinstance(second, SparseLinear)
    assert isinstance(last, nn.Linear)
    assert (first.pattern.block, second.pattern.block) == ((4, 4), (4, 4))
    assert (first.relu, second.relu) == (True, True)
    assert (first.n_edges, second.n_edges) == (784 * 128 * 20 // 196, 128 * 32)
    assert first.pattern != SparseMlp(blocks=(1, 4)).build(config, MNIST, seed=1)[0].pattern  # type: ignore[index]
    assert space.summary(config, MNIST) == "784 -(0.102)- 128 -(0.5)- 64-10, relu, dropout 0"


def test_each_junction_has_the_block_that_suits_it() -> None:
    space = SparseMlp()
    config = space.complete({**SPARSE, "nodes_1": 120, "density_1": 0.1, "block": "auto"}, MNIST)
    # of 196 blocks of 4 into the first layer 20, of 15 of 8 into the second 7.5
    assert (config["density_1"], config["density_2"]) == (20 / 196, 0.5)
    first, second, last = (j.block for j in space.junctions(config, MNIST))
    assert (first, second, last) == ((4, 4), (4, 4), (1, 1))
    assert space.build(config, MNIST, seed=0)[0].pattern.block == (4, 4)  # type: ignore[index, union-attr]
    assert space.complete(config, MNIST) == config
    assert config["block"] == "auto"


def test_numbers_go_before_auto_where_both_are_the_same_network() -> None:
    space = SparseMlp(blocks=("auto", 8, 1))
    sizes = {"hidden_layers": 1, "nodes_1": 64, "output_density": 1.0}
    for density, block in ((0.25, 8), (1 / 784, 1)):
        config = {**sizes, "density_1": density, "block": "auto"}
        assert space.complete(config, MNIST)["block"] == block


def test_widths_of_automatic_blocks_are_multiples_from_where_blocks_fit() -> None:
    stage = stages(SparseMlp(nodes=(13, 130), hidden_layers=(1, 1)))["architecture"]
    assert isinstance(stage, Bayesian)
    points = (stage.values([0.5, 0.5, 0.5, 0.5, u / 200, 0.5]) for u in range(201))
    drawn = {int(point["nodes_1"]) for point in points}
    assert {13, 17, 31, 32, 36, 60, 64, 72, 128} <= drawn
    assert {n % 8 for n in drawn if n >= 64} == {0}
    assert {n % 4 for n in drawn if n >= 32} == {0}
    # no multiple of 8 lies in the range, and one of 4
    assert SparseMlp(nodes=(65, 71), hidden_layers=(1, 1)).largest(MNIST)["nodes_1"] == 68


@pytest.mark.parametrize("family", ["auto", "regular", "clash_free", "cyclic", "random"])
@pytest.mark.parametrize("wish", [0.001, 0.07, 0.107, 0.26, 0.5, 0.9, 1.0])
def test_automatic_blocks_keep_the_limits_and_come_out_again(family: str, wish: float) -> None:
    for sizes in ((784, 64), (96, 96), (128, 512), (60, 36), (30, 7)):
        single = nearest_junction(*sizes, wish, (0.05, 0.95), 1, family)
        found = nearest_junction(*sizes, wish, (0.05, 0.95), "auto", family)
        assert nearest_junction(*sizes, found.density, (0.05, 0.95), "auto", family) == found
        if found.block == (1, 1):
            assert found == single
        else:
            assert 0.05 <= found.density <= 0.95
            # twice, as the density that it has may allow a larger block
            assert abs(found.density - min(max(wish, 0.05), 0.95)) <= 0.11 * wish
            assert found.build(0).n_edges == found.n_edges


def test_a_block_that_changes_nothing_is_not_another_network() -> None:
    space = SparseMlp(blocks=(4, 1), families=("auto", "regular"))
    dense = {"hidden_layers": 1, "nodes_1": 32, "density_1": 1.0, "output_density": 1.0}
    made = [
        space.complete({**dense, "block": block, "family": family}, MNIST)
        for block in (1, 4)
        for family in ("auto", "regular")
    ]
    assert made == [made[0]] * 4
    assert (made[0]["block"], made[0]["family"]) == (1, "auto")


def test_the_kernel_of_the_sparse_space_sees_the_size() -> None:
    space = SparseMlp(nodes=(16, 64), density=(0.25, 1.0), output_density=(0.5, 1.0))
    stage = stages(space, Shape(32, 4))["architecture"]
    assert isinstance(stage, Bayesian)
    (size,) = (c for c in stage.components if c.name == "parameters")
    # none hidden at half density; three of 64
    smallest, largest = 32 * 4 // 2 + 4, 32 * 64 + 2 * 64 * 64 + 64 * 4 + 3 * 64 + 4
    assert size.limits(0) == (math.log(smallest), math.log(largest))
    config = space.complete({"hidden_layers": 0, "output_density": 0.75}, Shape(32, 4))
    assert size.values(config) == (math.log(32 * 4 * 3 // 4 + 4),)


def test_widths_are_multiples_of_the_block_within_their_range() -> None:
    space = SparseMlp(nodes=(13, 50), hidden_layers=(1, 1), blocks=(16,))
    stage = stages(space)["architecture"]
    assert isinstance(stage, Bayesian)
    drawn = {stage.values([0.5, 0.5, 0.5, 0.5, u, 0.5])["nodes_1"] for u in (0, 0.3, 0.6, 0.9, 1)}
    assert drawn == {16, 32, 48}
    assert space.largest(MNIST)["nodes_1"] == 48


@pytest.mark.parametrize("family", ["auto", "regular", "clash_free", "cyclic", "random"])
@pytest.mark.parametrize("wish", [0.001, 0.07, 0.26, 0.9, 1.0])
def test_nearest_junction_has_a_feasible_density_within_the_limits(
    family: str, wish: float
) -> None:
    found = nearest_junction(60, 36, wish, (0.05, 0.95), 4, family)
    assert found.block == (4, 4)
    assert 0.05 <= found.density <= 0.95
    again = nearest_junction(60, 36, found.density, (0.05, 0.95), 4, family)
    assert again == found
    units = {"random": 9 * 15, "auto": 15, "regular": 15}.get(family)
    every = feasible_densities(60, 36, 4) if units is None else [k / units for k in range(1, units)]
    within = [density for density in every if 0.05 <= density <= 0.95]
    assert abs(found.density - wish) <= min(abs(density - wish) for density in within) + 1e-12
    assert found.build(0).n_edges == found.n_edges


def test_a_range_without_feasible_density_gives_the_smallest_above() -> None:
    assert nearest_junction(8, 5, 0.02, (0.01, 0.05)).density == 1 / 8
    assert nearest_junction(8, 5, 0.3, (0.26, 0.37)).density == 3 / 8
    assert nearest_junction(8, 5, 0.01, (0.01, 0.05), family="clash_free") == Junction(8, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": (0.0, 1.0)}, r"^density must run from above 0 to at most 1, .* got 0\.\.1"),
        ({"density": (0.5, 0.1)}, r"lower limit first; got 0\.5\.\.0\.1"),
        ({"output_density": (0.5, 1.5)}, r"^output_density must run .* got 0\.5\.\.1\.5"),
        ({"nodes": (17, 31), "blocks": (1, 16)}, r"^no multiple of block 16 is .* in 17\.\.31"),
        ({"blocks": (0,)}, r"^no multiple of block 0 "),
        ({"blocks": ("auto", "auto")}, r"^block has a value twice: "),
        ({"blocks": ()}, r"^block has no values to choose from"),
        ({"families": ("auto", "auto")}, r"^family has a value twice"),
        (
            {"families": ("cyclic", "auto"), "density": (0.1, 0.5)},
            r"^cyclic patterns of some widths have every edge .* up to 1, got 0\.5 and 1; or",
        ),
        ({"families": ("ring",)}, r"^unknown families ring; known: auto, clash_free"),
    ],
)
def test_contradictory_sparse_ranges(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseMlp(**options)


def test_faithful_settings() -> None:
    space = faithful("mlp", "rcv1")
    assert isinstance(space, Mlp)
    assert (space.kernel, space.learning_rate) == ("paper", (1e-5, 1e-1))
    assert space.complete({}, RCV1)["weight_decay"] == pytest.approx(980_850e-10)
    assert faithful("mlp", "iris").complete({}, MNIST)["weight_decay"] == 0  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^Deep-n-Cheap searched mlp and cnn spaces, not 'sparse"):
        faithful("sparse-mlp")

"""What holds for every space: any point of the unit cube is a network, equal ones are equal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_search.kernel import gram
from dnc_search.parameters import Config
from dnc_search.space import Bayesian, Grid, Shape
from dnc_search.spaces import (
    Cnn,
    Mlp,
    SparseMlp,
    earlier_defaults,
    space_from,
    space_from_record,
    space_from_texts,
    space_record,
)
from dnc_search.spaces.staged import StagedSpace
from dnc_sparse.nn import SparseLinear

SHAPE = Shape(64, 5, image=(1, 8, 8))
SPACES: dict[str, StagedSpace] = {
    "mlp": Mlp(),
    "mlp-paper": Mlp(kernel="paper", nodes_log=True),
    "sparse": SparseMlp(nodes=(3, 40)),
    "sparse-narrow": SparseMlp(nodes=(3, 9), density=(0.1, 0.15), output_density=(0.3, 0.4)),
    "sparse-blocks": SparseMlp(
        nodes=(5, 70),
        blocks=(1, 4, 16),
        families=("auto", "clash_free", "cyclic", "regular", "random"),
    ),
    "cnn": Cnn(conv_layers=(1, 16), first_channels=(1, 7), most_channels=9),
    "cnn-wide": Cnn(conv_layers=(1, 4), first_channels=(16, 64), classifier_density=0.3),
}
points = st.lists(st.floats(0, 1), min_size=64, max_size=64)


def stage(space: StagedSpace, name: str) -> Bayesian:
    (found,) = (s for s in space.stages(SHAPE) if s.name == name)
    assert isinstance(found, Bayesian)
    return found


def candidate(space: StagedSpace, point: list[float]) -> dict[str, Any]:
    """Return the configuration that a point of the unit cube stands for, stage after stage."""
    config: Config = {}
    for each in space.stages(SHAPE):
        if isinstance(each, Bayesian):
            values = each.values(point[: each.dimensions])
            config = space.complete(each.place(config, values), SHAPE)
            point = point[each.dimensions :] or point
    return dict(config)


@pytest.mark.parametrize("name", SPACES)
@settings(deadline=None, max_examples=25)
@given(points)
def test_any_point_is_a_network_that_learns(name: str, point: list[float]) -> None:
    space = SPACES[name]
    base: Config = {}
    for each in space.stages(SHAPE):
        if isinstance(each, Bayesian):
            values = each.values(point[: each.dimensions])
            assert values == each.values(point[: each.dimensions])
            known = {parameter.name: parameter for parameter in each.parameters}
            for key, value in values.items():
                known[key].check(value)
            base = space.complete(each.place(base, values), SHAPE)
            # what a proposal compares is what is trained
            assert {key: base[key] for key in values} == values
    assert space.complete(base, SHAPE) == base
    assert json.loads(json.dumps(base)) == base
    model = space.build(base, SHAPE, seed=3)
    assert sum(p.numel() for p in model.parameters()) == count(space, base, model)
    y = model(torch.randn(3, 64))
    assert y.shape == (3, 5)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert space.summary(base, SHAPE)


def count(space: StagedSpace, config: Config, model: torch.nn.Module) -> int:
    """Return what the space counts, and the empty slots that an irregular pattern stores."""
    padding = sum(
        layer.weight.numel() - layer.n_edges
        for layer in model.modules()
        if isinstance(layer, SparseLinear)
    )
    return space.plan(config, SHAPE).n_parameters + padding


@pytest.mark.parametrize("name", SPACES)
@settings(deadline=None, max_examples=200)
@given(points)
def test_no_network_has_more_parameters_than_the_largest(name: str, point: list[float]) -> None:
    space = SPACES[name]
    largest = space.plan(space.complete({}, SHAPE), SHAPE).n_parameters
    assert space.plan(candidate(space, point), SHAPE).n_parameters <= largest


@pytest.mark.parametrize("name", SPACES)
def test_equal_networks_have_equal_configurations(name: str) -> None:
    space = SPACES[name]
    generator = torch.Generator().manual_seed(0)
    found: dict[Any, dict[str, Any]] = {}
    equal = 0
    for _ in range(500):
        config = candidate(space, torch.rand(64, generator=generator).tolist())
        for other in ("learning_rate", "weight_decay", "batch_size"):
            del config[other]
        plan = space.plan(config, SHAPE)
        equal += plan in found
        assert found.setdefault(plan, config) == config
    assert equal > 10


@pytest.mark.parametrize("name", SPACES)
def test_the_largest_network_checks(name: str) -> None:
    space = SPACES[name]
    largest = space.complete(space.largest(SHAPE), SHAPE)
    assert largest == space.complete({}, SHAPE)
    for parameter in stage(space, "architecture").parameters:
        if parameter.name in largest:
            parameter.check(largest[parameter.name])


@pytest.mark.parametrize("name", SPACES)
def test_a_seed_gives_the_same_weights_and_leaves_the_global_state(name: str) -> None:
    space = SPACES[name]
    config = candidate(space, [0.4] * 64)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = space.build(config, SHAPE, seed=7)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    two, other = space.build(config, SHAPE, seed=7), space.build(config, SHAPE, seed=8)
    weights = [list(model.parameters()) for model in (one, two, other)]
    assert all(map(torch.equal, weights[0], weights[1]))
    assert not all(map(torch.equal, weights[0], weights[2]))


@pytest.mark.parametrize("name", SPACES)
def test_a_change_of_a_grid_changes_the_network_each_in_its_own_way(name: str) -> None:
    space = SPACES[name]
    for point in ([0.0] * 64, [0.5] * 64, [0.99] * 64):
        config = candidate(space, point)
        for each in space.stages(SHAPE):
            if isinstance(each, Grid):
                tried = [space.complete({**config, **c}, SHAPE) for c in each.changes(config)]
                plans = [space.plan(c, SHAPE) for c in (config, *tried)]
                assert len(set(plans)) == len(plans)


def test_the_order_of_the_stages_is_the_users() -> None:
    space = Mlp(order=("training", "architecture"), initial=3, steps=2)
    first, second = space.stages(SHAPE)
    assert [(s.name, s.initial, s.steps) for s in (first, second)] == [  # type: ignore[union-attr]
        ("training", 3, 2),
        ("architecture", 3, 2),
    ]


def test_what_an_earlier_stage_decided_stays_and_other_presets_follow_the_architecture() -> None:
    late, early = Mlp(), Mlp(order=("training", "dropout", "architecture"))
    base = {**late.complete({}, SHAPE), "weight_decay": 1e-4, "dropout": 0.4}
    values = {"hidden_layers": 1, "nodes_1": 200}
    kept = early.complete(stage(early, "architecture").place(base, values), SHAPE)
    assert (kept["weight_decay"], kept["dropout"]) == (1e-4, 0.4)
    followed = late.complete(stage(late, "architecture").place(base, values), SHAPE)
    n_parameters = 64 * 200 + 200 + 200 * 5 + 5
    assert followed["weight_decay"] == pytest.approx(1e-9 * n_parameters)
    assert followed["dropout"] == 0.2
    assert "nodes_2" not in kept


@pytest.mark.parametrize("kernel", ["layers", "paper"])
def test_components_take_what_the_stages_make(kernel: str) -> None:
    for space in (*SPACES.values(), Mlp(kernel=kernel)):  # type: ignore[arg-type]
        config = candidate(space, [0.7] * 64)
        for name in ("architecture", "training"):
            for component in stage(space, name).components:
                for layer, value in enumerate(component.values(config)):
                    low, high = component.limits(layer)
                    assert low - 1e-12 <= value <= high + 1e-12 or component.name == "density"
                    assert 0 < component.exponent(layer) <= 1


def test_training_ranges() -> None:
    wide = Mlp(
        learning_rate=(1e-5, 1e-1),
        no_decay_below=1e-5,
        batch_log=False,
    )
    drawn = [stage(wide, "training").values([u] * 3) for u in (0.0, 0.2, 0.5, 1.0)]
    assert [d["weight_decay"] for d in drawn[:2]] == [0.0, 0.0]
    assert drawn[2] == pytest.approx(
        {"learning_rate": 1e-3, "weight_decay": 10**-4.5, "batch_size": 272}
    )
    assert drawn[3] == pytest.approx(
        {"learning_rate": 0.1, "weight_decay": 1e-3, "batch_size": 512}
    )
    logged = stage(Mlp(), "training").values([0.5] * 3)
    assert logged["batch_size"] == 128
    # 0 is compared as the lowest decay
    (decay,) = (c for c in stage(wide, "training").components if c.name == "weight_decay")
    assert decay.values(drawn[0]) == decay.values({"weight_decay": 1e-6})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": ()}, "^order must name at least one of architecture, activation, dropout, tr"),
        ({"order": ("training", "training")}, r"each once; got \('training', 'training'\)"),
        ({"order": ("pooling",)}, r"each once; got \('pooling',\)"),
        (
            {"order": ("dropout", "architecture")},
            "^order must begin with architecture or training, for dropout has no network to change",
        ),
        ({"initial": 0}, "^a stage needs at least 1 initial point and 0 steps, got initial 0"),
        ({"hidden_layers": (2, 1)}, r"^the range of hidden_layers is empty: 2\.\.1"),
        ({"nodes": (9, 3)}, r"^the range of nodes is empty: 9\.\.3"),
        ({"nodes": (0, 3)}, r"^there must be at least 0 hidden layers and 1 node in each"),
        ({"dropouts": (0.5, 1.0)}, r"^dropout must be at least 0 and below 1, got 0\.2 and"),
        ({"activations": ("relu", "step")}, r"^activations must be some of relu, tanh, .*'step'"),
        ({"learning_rate": (1e-2, 1e-4)}, r"^the range of learning_rate is empty: 0\.01\.\.0"),
        ({"weight_decay": (0.0, 1e-4)}, r"^a log range must start above 0, but weight_decay"),
        ({"batch_size": (0, 4), "batch_log": False}, "^batch_size must start above 0, got 0"),
        ({"no_decay_below": -1.0}, r"^no_decay_below must be at least 0, got -1\.0"),
        ({"decay_per_parameter": -1.0}, r"^decay_per_parameter must be at least 0, got -1\.0"),
        ({"kernel": "ramp"}, "^kernel must be layers or paper, got 'ramp'"),
    ],
)
def test_contradictory_ranges(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mlp(**options)


def test_a_configuration_without_one_of_its_layers() -> None:
    with pytest.raises(ValueError, match=r"^a configuration with hidden_layers 2 also needs nod"):
        Mlp().complete({"hidden_layers": 2, "nodes_1": 30}, SHAPE)


@pytest.mark.parametrize("name", ["mlp", "sparse-mlp", "cnn"])
def test_a_record_rebuilds_the_space(name: str) -> None:
    space = space_from(name, {"learning_rate": [1, 2], "order": ["training"], "steps": 4})
    assert space.learning_rate == (1.0, 2.0)  # type: ignore[attr-defined]
    record = space_record(space)
    assert json.loads(json.dumps(record)) == record
    assert space_from_record(record) == space


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg", {}, r"^unknown space 'vgg'; choose one of mlp, sparse-mlp, cnn, or a class"),
        ("mlp", {"nodse": [1, 2]}, "^Mlp has no option nodse; its options are order, initial, st"),
        ("mlp", {"nodes": 20}, "^option nodes must be a list of 2, each a whole number, got 20"),
        (
            "mlp",
            {"nodes": [20, 30, 40]},
            r"^option nodes must be a list of 2, .* got \[20, 30, 40\]",
        ),
        ("mlp", {"nodes": [2.5, 30]}, "^option nodes must be a whole number, got 2.5"),
        ("mlp", {"steps": True}, "^option steps must be a whole number, got True"),
        ("mlp", {"dropout": "much"}, "^option dropout must be a number, got 'much'"),
        ("mlp", {"order": "training"}, "^option order must be a list, each a text, got 'training'"),
        ("mlp", {"kernel": "ramp"}, "^option kernel must be one of layers, paper, got 'ramp'"),
    ],
)
def test_wrong_names_and_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space_from(name, options)


@pytest.mark.parametrize("name", SPACES)
def test_the_kernel_of_each_stage_is_positive_definite(name: str) -> None:
    space = SPACES[name]
    generator = torch.Generator().manual_seed(0)
    configs = [candidate(space, torch.rand(64, generator=generator).tolist()) for _ in range(60)]
    for each in ("architecture", "training"):
        matrix = gram(stage(space, each).components, configs, configs)
        assert np.linalg.eigvalsh(matrix).min() > -1e-9
        assert 0 < matrix.mean() < 1


def test_one_other_choice_is_as_far_as_any() -> None:
    components = stage(SPACES["sparse-blocks"], "architecture").components
    (family,) = (c for c in components if c.name == "family")
    names = [{"family": name} for name in ("auto", "clash_free", "random")]
    far = pytest.approx(np.exp(-4.5))
    assert gram([family], names, names).tolist() == [[1, far, far], [far, 1, far], [far, far, 1]]


def test_a_space_recorded_before_blocks_had_a_default_has_single_edges() -> None:
    record = space_record(SparseMlp(blocks=(1,)))
    assert record["options"]["blocks"] == [1]
    assert space_from_record(record) == SparseMlp(blocks=(1,))
    del record["options"]["blocks"]
    assert space_from_record(record) == SparseMlp(blocks=(1,))
    assert space_from_record({"name": "sparse-mlp", "options": {}}) == SparseMlp(blocks=(1,))
    assert space_from("sparse-mlp") == SparseMlp(blocks=("auto",))


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (SparseMlp(blocks=(1,)), {"blocks": [1]}),
        (SparseMlp(), {}),
        (SparseMlp(blocks=(4, 1)), {}),
        (Mlp(), {}),
    ],
)
def test_a_search_goes_on_with_the_defaults_it_began_with(
    before: SparseMlp | Mlp, kept: dict[str, object]
) -> None:
    assert earlier_defaults("sparse-mlp", space_record(before)) == kept
    assert earlier_defaults("mlp", space_record(before)) == {}


def test_options_of_a_command_line() -> None:
    assert space_from_texts("sparse-mlp", ["blocks=auto,8"]) == SparseMlp(blocks=("auto", 8))
    assert space_from_texts("sparse-mlp", ["blocks=4"]) == SparseMlp(blocks=(4,))
    texts = ["nodes=16, 512", "density=1/64,1", "families=auto,random", "batch_log=false"]
    assert space_from_texts("sparse-mlp", texts) == SparseMlp(
        nodes=(16, 512), density=(1 / 64, 1.0), families=("auto", "random"), batch_log=False
    )
    assert space_from_texts("mlp", ["kernel=paper", "order=training"]) == Mlp(
        kernel="paper", order=("training",)
    )


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["nodes"], "^an option of the space is written name=value, got 'nodes'"),
        (["steps=1", "steps=2"], "^option steps is given twice: 1 and 2"),
        (["nodse=1,2"], "^Mlp has no option nodse; its options are order, initial, steps, act"),
        (["nodes=16,many"], "^option nodes must be a whole number, got 'many'"),
        (["dropout=1/0"], "^option dropout must be a number, got '1/0'"),
        (["nodes="], r"^option nodes must be a list of 2, each a whole number, got \[\]"),
        (["nodes_log=perhaps"], "^option nodes_log must be true or false, got 'perhaps'"),
    ],
)
def test_wrong_options_of_a_command_line(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space_from_texts("mlp", texts)


@pytest.mark.parametrize("value", ["big", "2.5"])
def test_blocks_are_whole_numbers_or_auto(value: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^option blocks must be a whole number or auto, got '{value}'$"
    ):
        space_from_texts("sparse-mlp", [f"blocks=1,{value}"])

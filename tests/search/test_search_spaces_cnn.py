"""The CNN space: the published networks and their counts, placement rules, grids, shortcuts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from dnc_search.networks import Junction
from dnc_search.networks_cnn import ConvLayer, ConvNet, ConvPlan
from dnc_search.space import Bayesian, Grid, Shape
from dnc_search.spaces import Cnn
from dnc_search.spaces.cnn import channels, conv_layers, halvings
from dnc_search.spaces.grids import spread
from dnc_search.spaces.presets import faithful
from dnc_sparse.nn import SparseLinear

CIFAR = Shape(3072, 10, image=(3, 32, 32))


def config(*widths: int, **details: Any) -> dict[str, Any]:
    named = {f"channels_{i}": c for i, c in enumerate(widths, start=1)}
    return Cnn().complete({"conv_layers": len(widths), **named, **details}, CIFAR)


# w_c, widths, fraction of batch norm, halvings after these layers, parameters
PUBLISHED = [
    (
        "0",
        (50, 52, 53, 59, 95, 96, 97, 120, 193, 239, 351, 385, 488, 496),
        1,
        [4, 8, 10],
        6_876_233,
    ),
    ("0.01", (39, 60, 120, 124, 178, 192, 292, 328, 352, 396, 488, 488), 0.75, [2, 4, 6], 8.28e6),
    ("0.1", (46, 51, 70, 114, 128, 208, 286, 371), 1, [2, 5, 6], 1_995_138),
    ("1", (61, 116, 216, 358), 0.75, [1, 2, 3], 0.99e6),
    ("10", (37, 67, 130, 170), 0, [1, 2], 0.303e6),
]


@pytest.mark.parametrize(("w_c", "widths", "norms", "halved", "n_parameters"), PUBLISHED)
def test_published_networks(
    w_c: str, widths: tuple[int, ...], norms: float, halved: list[int], n_parameters: float
) -> None:
    found = config(*widths, batch_norm=norms)
    assert [i + 1 for i in halvings(widths)] == halved
    counted = Cnn().plan(found, CIFAR).n_parameters
    if isinstance(n_parameters, int):
        assert counted == n_parameters
    else:
        assert counted == pytest.approx(n_parameters, rel=0.005)


@pytest.mark.parametrize(
    ("count", "fraction", "layers"),
    [
        (7, 0.5, [2, 4, 6, 7]),
        (4, 0.75, [2, 3, 4]),
        (12, 0.25, [4, 8, 12]),
        (14, 0.5, [2, 4, 6, 8, 10, 12, 14]),
        (5, 1, [1, 2, 3, 4, 5]),
        (5, 0, []),
        # 0.28 * 25 comes out above 7
        (25, 0.28, [4, 8, 11, 15, 18, 22, 25]),
    ],
)
def test_fractions_are_spread_late(count: int, fraction: float, layers: list[int]) -> None:
    assert sorted(i + 1 for i in spread(fraction, count)) == layers


@pytest.mark.parametrize(
    ("depth", "starts"), [(8, []), (9, [1, 5]), (14, [1, 5, 9]), (16, [1, 3, 5, 7, 9, 11, 13])]
)
def test_presets_follow_the_depth(depth: int, starts: list[int]) -> None:
    found = conv_layers(config(*[20] * depth))
    assert [i for i, layer in enumerate(found, start=1) if layer.shortcut] == starts
    assert [layer.dropout for layer in found] == [0.1] + [0.3] * (depth - 1)
    assert all(layer.batch_norm for layer in found)


def test_weight_decay_follows_the_parameters() -> None:
    published = {w_c: (widths, norms) for w_c, widths, norms, *_ in PUBLISHED}
    widths, norms = published["0.01"]
    assert config(*widths, batch_norm=norms)["weight_decay"] == pytest.approx(8.28e-5, rel=0.005)
    assert config(*published["1"][0])["weight_decay"] == 0


def test_widths_never_shrink_and_at_most_double() -> None:
    (stage,) = (s for s in Cnn().stages(CIFAR) if s.name == "architecture")
    assert isinstance(stage, Bayesian)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        point = torch.rand(stage.dimensions, generator=generator).tolist()
        widths = channels(stage.values(point))
        assert 4 <= len(widths) <= 16
        assert 16 <= widths[0] <= 64
        assert widths[-1] <= 512
        assert all(a <= b <= 2 * a for a, b in pairwise(widths))
    largest = channels(Cnn().largest(CIFAR))
    assert largest == (64, 128, 256, *[512] * 13)


def changes(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    grids = [stage for stage in Cnn().stages(CIFAR) if isinstance(stage, Grid)]
    return {grid.name: list(grid.changes(found)) for grid in grids}


def test_grids_as_published_without_what_is_known() -> None:
    tried = changes(config(46, 51, 70, 114, 128, 208, 286, 371))
    # 15 for dropout, at most 7 for downsampling
    assert {name: len(found) for name, found in tried.items()} == {
        "activation": 2,
        "downsampling": 7,
        "batch_norm": 4,
        "dropout": 15,
        "shortcuts": 2,
    }
    assert {"strided": "2"} in tried["downsampling"]


def test_grids_of_a_small_network() -> None:
    tried = changes(config(16, 20, 24))
    assert tried["downsampling"] == []
    # of 3 layers 0.75 are all, and only one shortcut fits
    assert len(tried["batch_norm"]) == 3
    assert len(tried["shortcuts"]) == 1
    assert changes(config(16, 20))["shortcuts"] == []


def test_details_that_no_layer_has_are_not_another_network() -> None:
    none = config(20, 20, 20, 20, dropout_fraction=0.0)
    assert (none["dropout_first"], none["dropout"]) == (0.0, 0.0)
    half = config(20, 20, 20, 20, dropout_fraction=0.5)
    assert (half["dropout_first"], half["dropout"]) == (0.0, 0.3)
    assert config(20, 70, strided="1,3")["strided"] == "1"


def test_kernel_limits() -> None:
    def component(space: Cnn) -> Any:
        (stage,) = (s for s in space.stages(CIFAR) if s.name == "architecture")
        assert isinstance(stage, Bayesian)
        (found,) = stage.components
        return found

    paper, code = component(Cnn()), component(Cnn(kernel="code"))
    assert [paper.limits(i) for i in range(5)] == [(16, u) for u in (64, 128, 256, 512, 512)]
    assert [code.limits(i) for i in range(5)] == [(16, 64)] * 5
    assert [paper.exponent(i) for i in range(5)] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 4]
    assert paper.values(config(20, 30)) == (20, 30)


def test_order_of_the_modules() -> None:
    found = config(64, 100, strided="", dropout_fraction=1.0)
    model = Cnn().build(found, CIFAR, seed=0)
    assert isinstance(model, ConvNet)
    first = model.layers[0]
    assert [type(m) for m in first.linear] == [nn.Conv2d, nn.MaxPool2d, nn.BatchNorm2d]  # type: ignore
    assert [type(m) for m in first.children()][1:] == [nn.ReLU, nn.Dropout]
    strided = Cnn().build({**found, "strided": "1"}, CIFAR, seed=0)
    assert [type(m) for m in strided.layers[0].linear] == [nn.Conv2d, nn.BatchNorm2d]  # type: ignore
    assert model.layers[0](torch.randn(2, 3, 7, 5)).shape == (2, 64, 4, 3)
    assert strided.layers[0](torch.randn(2, 3, 7, 5)).shape == (2, 64, 4, 3)  # type: ignore


def test_a_shortcut_skips_two_layers_and_rejoins_before_the_activation() -> None:
    layers = (
        ConvLayer(2, batch_norm=False, shortcut=True),
        ConvLayer(3, "pool", batch_norm=False),
        ConvLayer(4, "stride", batch_norm=False),
    )
    model = ConvPlan((1, 6, 6), layers, Junction(4, 2), "relu").build(0)
    assert isinstance(model, ConvNet)
    with torch.no_grad():
        # what the last layer itself adds is then 0
        model.layers[2].linear[0].weight.zero_()  # type: ignore
    x = torch.randn(5, 36)
    left = model.layers[0](x.reshape(5, 1, 6, 6))
    pooled = nn.functional.avg_pool2d(nn.functional.avg_pool2d(left, 2), 2, ceil_mode=True)
    joined = torch.cat([pooled, torch.zeros_like(pooled)], dim=1).relu()
    torch.testing.assert_close(model(x), model.classifier(joined.mean(dim=(2, 3))))


def test_a_sparse_classifier() -> None:
    space = Cnn(conv_layers=(1, 2), classifier_density=0.3)
    model = space.build({"conv_layers": 1, "channels_1": 20}, CIFAR, seed=0)
    assert isinstance(model, ConvNet)
    assert isinstance(model.classifier, SparseLinear)
    assert model.classifier.n_edges == 60


def test_images_are_needed_and_small_ones_will_do() -> None:
    with pytest.raises(ValueError, match=r"^a CNN needs images, but the data say nothing of"):
        Cnn().complete({}, Shape(784, 10))
    tiny = Shape(1, 2, image=(1, 1, 1))
    model = Cnn().build(config(60, 70, 130, 260, 300), tiny, seed=0).eval()
    assert model(torch.randn(2, 1)).shape == (2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv_layers": (5, 4)}, r"^the range of conv_layers is empty: 5\.\.4"),
        ({"conv_layers": (0, 4)}, r"^there must be at least 1 layer of 1 channel"),
        ({"first_channels": (9, 8)}, r"^the range of first_channels is empty: 9\.\.8"),
        (
            {"most_channels": 60},
            r"^most_channels 60 is below the upper limit of first_ch",
        ),
        ({"classifier_density": 0.0}, r"^classifier_density must be above 0 and at most 1, got 0"),
        ({"batch_norms": (0.5, 2.0)}, r"^batch_norms must be fractions in 0\.\.1, got \(0\.5, 2"),
        ({"dropouts": (-1.0,)}, r"^dropouts must be fractions in 0\.\.1, got \(-1"),
        ({"dropout_probabilities": ()}, r"^dropout_probabilities must be one or more numbers"),
        ({"first_dropout_probabilities": (1.0,)}, r"^first_dropout_probabilities must be one or"),
        ({"kernel": "ramp"}, r"^kernel must be paper or code, got 'ramp'"),
    ],
)
def test_contradictory_ranges(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cnn(**options)


def test_faithful_settings() -> None:
    space = faithful("cnn", "cifar10")
    assert isinstance(space, Cnn)
    assert (space.kernel, space.batch_log, space.no_decay_below) == ("paper", False, 1e-5)

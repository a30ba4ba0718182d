"""What networks cost: exact counts, memory, time, energy, and the user's own functions."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from search.tiny_space import CLASSES, NUMBERS, config
from torch import nn

from dnc_search import counting, energy
from dnc_search.evaluation import shape_of
from dnc_search.measures import MEASURES, Subject, measure
from dnc_search.memory import peak_bytes
from dnc_sparse import SparseLinear, SparseMLP
from dnc_sparse.data import Split
from dnc_sparse.patterns import from_mask
from dnc_sparse.training import FitConfig

FIT = FitConfig(batch_size=32)
FLOAT = 4


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def subject(model: nn.Module, seconds: tuple[float, ...] = (), **changed: int) -> Subject:
    return Subject(
        config(), shape_of(CLASSES), model, CLASSES.train, FIT, seconds=seconds, **changed
    )


# --- counts


@pytest.mark.parametrize(
    ("sizes", "published"),
    [
        # Deep-n-Cheap's largest networks on 784 and 2000 features, its softmax networks
        ((784, 400, 400, 10), 478_410),
        ((2000, 400, 400, 50), 980_850),
        ((784, 10), 7_850),
        ((2000, 50), 100_050),
        ((784, 64, 10), 50_890),
    ],
)
def test_parameters_are_the_published_formulas(sizes: tuple[int, ...], published: int) -> None:
    with torch.device("meta"):
        model = mlp(*sizes)
    assert counting.parameters(model) == published
    assert counting.edges(model) == published - sum(sizes[1:])


def test_parameters_of_a_published_cnn() -> None:
    """Deep-n-Cheap's network for CIFAR-10 at w_c 0.1: 1,995,138 parameters."""
    widths = [3, 46, 51, 70, 114, 128, 208, 286, 371]
    layers: list[nn.Module] = []
    with torch.device("meta"):
        for n_in, n_out in pairwise(widths):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(371, 10))
    assert counting.parameters(model) == 1_995_138


def test_sparse_layers_count_their_edges() -> None:
    model = SparseMLP((12, 8, 4), 0.25, seed=0)
    n_edges = sum(junction.n_edges for junction in model.junctions)  # type: ignore[misc]
    assert counting.edges(model) == n_edges
    assert counting.parameters(model) == n_edges + 8 + 4
    assert counting.multiply_adds(model, CLASSES.train.x[:3]) == n_edges


def test_empty_slots_are_no_parameters() -> None:
    mask = torch.zeros(3, 12, dtype=torch.bool)
    mask[0, :6] = mask[1, 0] = True
    layer = SparseLinear(12, 3, pattern=from_mask(mask))
    assert layer.weight.numel() == 18
    assert counting.parameters(layer) == 7 + 3
    assert counting.edges(layer) == 7


def test_frozen_parameters_are_edges_only() -> None:
    model = mlp(12, 8, 4)
    model[0].requires_grad_(False)
    assert counting.parameters(model) == 8 * 4 + 4
    assert counting.edges(model) == 12 * 8 + 8 * 4


def test_multiply_adds_of_convolutions() -> None:
    model = nn.Sequential(
        nn.Unflatten(1, (3, 8, 8)),
        nn.Conv2d(3, 6, 3, padding=1, stride=2),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 4, 3, groups=2),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    by_hand = 6 * 3 * 9 * 16 + 4 * 3 * 9 * 4 + 16 * 5
    assert counting.multiply_adds(model, torch.rand(2, 192)) == by_hand
    assert model.training


def test_a_layer_used_twice_is_counted_twice() -> None:
    layer = nn.Linear(12, 12)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert counting.multiply_adds(model, torch.rand(1, 12)) == 2 * 144
    assert counting.edges(model) == 144


def test_training_flops_are_six_per_multiply_add() -> None:
    assert MEASURES["flops"].of(subject(mlp(12, 8, 4))) == 6 * (12 * 8 + 8 * 4)


def test_unknown_modules_are_named() -> None:
    model = nn.Sequential(nn.Linear(12, 4), nn.Bilinear(4, 4, 4))
    message = (
        r"^cannot count the multiply-adds of 1 \(Bilinear\); build the network from SparseLinear, "
        r"Linear, Conv1d, Conv2d, or measure its time instead$"
    )
    with pytest.raises(ValueError, match=message):
        counting.edges(model)

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    with pytest.raises(ValueError, match=r"^cannot count .* of the network itself \(Scaled\); "):
        counting.multiply_adds(Scaled(), CLASSES.train.x)


# --- memory, time, energy


def test_peak_bytes_of_a_linear_layer_by_hand() -> None:
    model = nn.Linear(12, 4)
    batch = Split(CLASSES.train.x[:32].clone(), CLASSES.train.y[:32].clone())
    # weights, gradients and two moments each; two step counters
    trained = 4 * (12 * 4 + 4) * FLOAT + 2 * FLOAT
    # x, log-softmax, labels, and the weight of all labels together
    kept = 32 * 12 * FLOAT + 32 * 4 * FLOAT + 32 * 8 + FLOAT
    assert peak_bytes(model, batch, FIT) == trained + kept


def test_peak_bytes_leaves_the_model_and_the_generator_alone() -> None:
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    peak_bytes(model, CLASSES.train, FIT)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def test_peak_bytes_grows_with_batch_and_shrinks_with_density() -> None:
    def peak(model: nn.Module, size: int) -> float:
        return peak_bytes(model, subject(model).batch(size), FIT)

    dense = SparseMLP((12, 64, 4), 1.0, seed=0)
    assert peak(dense, 64) - peak(dense, 32) == pytest.approx(peak(dense, 96) - peak(dense, 64))
    assert peak(dense, 64) > peak(dense, 32)
    # three edges in four are gone, with weight, gradient and both moments
    sparse = SparseMLP((12, 64, 4), 0.25, seed=0)
    saved = counting.parameters(dense) - counting.parameters(sparse)
    # a sparse layer has the record of its pattern besides
    records = sum(buffer.nbytes for buffer in sparse.buffers())
    assert peak(dense, 32) - peak(sparse, 32) >= 4 * saved * FLOAT - records


def test_peak_bytes_of_sparse_layers_has_their_activations() -> None:
    model = SparseMLP((12, 64, 4), 0.25, seed=0)
    # x, the hidden layer after its ReLU, log-softmax, labels
    per_sample = (12 + 64 + 4) * FLOAT + 8
    sizes = [peak_bytes(model, subject(model).batch(size), FIT) for size in (32, 96)]
    assert sizes[1] - sizes[0] == 64 * per_sample


def test_sgd_keeps_less_than_adam() -> None:
    model = mlp(12, 8, 4)
    batch = subject(model).batch(32)
    adam, sgd = (
        peak_bytes(model, batch, FitConfig(optimizer=name))  # type: ignore[arg-type]
        for name in ("adam", "sgd")
    )
    assert adam - sgd == 2 * counting.parameters(model) * FLOAT + 4 * FLOAT


def test_peak_bytes_of_a_regression() -> None:
    assert peak_bytes(nn.Linear(6, 2), NUMBERS.train, FIT) > 0


def test_the_first_epoch_is_left_out() -> None:
    of = MEASURES["seconds_per_epoch"].of
    assert of(subject(mlp(12, 4), (9.0, 1.0, 2.0, 4.0))) == 2.0
    assert of(subject(mlp(12, 4), (9.0,))) == 9.0


def test_latency_is_that_of_evaluation_mode() -> None:
    class Watch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            assert not torch.is_grad_enabled()
            assert x.shape == (200, 12)
            return x

    model = Watch().train()
    # more than the 150 samples there are
    assert 0 < MEASURES["latency_seconds"].of(subject(model, latency_batch=200)) < 1
    assert model.training


def test_energy_is_work_and_traffic() -> None:
    # 3 * 100 multiply-adds, 3200 bytes out and in for 32 samples
    assert energy.joules_per_sample(300, 3200, 32) == pytest.approx(300 * 4.6e-12 + 200 * 160e-12)
    model = mlp(12, 8, 4)
    found = MEASURES["joules_per_sample"].of(subject(model))
    peak = MEASURES["peak_bytes"].of(subject(model))
    assert found == pytest.approx(energy.joules_per_sample(3 * 128, peak, 32))


def test_every_measure_says_what_it_is() -> None:
    for name, known in MEASURES.items():
        assert known.name == name
        assert known.unit
        assert known.meaning.endswith(".")
        assert measure(name) is known


# --- the user's own


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "def depth(config, shape, model): return len(list(model.children()))\n"
        "def bad(config, shape, model): return -1\n"
        "number = 3\n"
    )
    (tmp_path / "own_costs.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own")
def test_a_function_of_the_users() -> None:
    assert measure("own_costs:depth").of(subject(mlp(12, 8, 4))) == 3
    with pytest.raises(
        ValueError, match=r"^own_costs:bad returned -1\.0; a complexity must be fin"
    ):
        measure("own_costs:bad").of(subject(mlp(12, 4)))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weight", "unknown complexity 'weight'; known: parameters, edges, flops, seconds_per_e"),
        (
            "own_costs:width",
            "the complexity 'own_costs:width' cannot be used: module 'own_costs' h",
        ),
        ("nowhere:f", "the complexity 'nowhere:f' cannot be used: No module named 'nowhere'; give"),
        ("own_costs:number", "the complexity 'own_costs:number' is no function but 3"),
        (":f", "the complexity ':f' cannot be used: Empty module name; give module:function, with"),
    ],
)
def test_what_is_no_complexity(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        measure(name)

"""Deep-n-Cheap's two networks of known accuracy, on Fashion-MNIST where its files are."""

from __future__ import annotations

from statistics import mean

import pytest
from search.tiny_space import TinySpace, config
from sparse.data_files import data_dir
from torch import nn

from dnc_search.evaluation import Settings, evaluate_final
from dnc_search.parameters import Config
from dnc_search.space import Shape
from dnc_sparse.data import load, split_validation


class Mlp(TinySpace):
    """784-10, or one hidden layer."""

    def build(self, config: Config, shape: Shape, seed: int) -> nn.Module:
        hidden = int(config["neurons"])
        if not hidden:
            return nn.Linear(shape.n_features, shape.n_outputs)
        return nn.Sequential(
            nn.Linear(shape.n_features, hidden), nn.ReLU(), nn.Linear(hidden, shape.n_outputs)
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "parameters", "published", "seeds"),
    # of the second network a seed alone is worth a quarter of a point
    [(0, 7_850, 0.849, 1), (64, 50_890, 0.8915, 3)],
)
def test_published_accuracy_in_a_quarter_of_the_epochs(
    hidden: int, parameters: int, published: float, seeds: int
) -> None:
    """Within half a point of what 60 epochs gave, as read off a plot to +-0.1."""
    data = split_validation(load("fashion-mnist", data_dir("fashion-mnist")))
    chosen = config(hidden, batch_size=128, learning_rate=5e-3)
    settings = Settings(epochs=15, measures=("parameters",))
    finals = [evaluate_final(Mlp(), chosen, data, settings, seed) for seed in range(seeds)]
    assert {final.measures["parameters"] for final in finals} == {parameters}
    accuracy = 1 - mean(final.measures["test_error"] for final in finals)
    assert abs(accuracy - published) <= 0.005

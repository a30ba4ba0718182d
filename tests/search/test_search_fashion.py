"""Deep-n-Cheap's two networks of known accuracy, on Fashion-MNIST where its files are."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("hidden", "parameters", "published"), [(0, 7_850, 0.849), (64, 50_890, 0.8915)]
)
def test_published_accuracy_in_a_quarter_of_the_epochs(
    hidden: int, parameters: int, published: float
) -> None:
    """Within half a point of what 60 epochs gave, as dug out of a plot (+-0.1)."""
    data = split_validation(load("fashion-mnist", data_dir("fashion-mnist")))
    chosen = config(hidden, batch_size=128, learning_rate=5e-3)
    settings = Settings(epochs=15, measures=("parameters",))
    final = evaluate_final(Mlp(), chosen, data, settings)
    assert final.measures["parameters"] == parameters
    assert abs(1 - final.measures["test_error"] - published) <= 0.005

"""What a training run leaves behind: figures of each epoch.

*Error* is the one figure that every task has: the fraction of samples misclassified, or, in
regression, the mean squared error over the variance of the targets (1 - R^2). 0 is perfect; 1 is
what the mean of the targets would give.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch; accuracies and errors are fractions.

    `loss` is the mean over the samples as they were trained on: cross-entropy, or the squared
    error in regression. `train_accuracy` is the running one, over the same batches. Accuracies are
    None in regression, and every figure of a split that was not evaluated. `seconds` is the time
    spent training, evaluation excluded.
    """

    epoch: int
    loss: float
    train_accuracy: float | None
    validation_accuracy: float | None
    test_accuracy: float | None
    seconds: float
    validation_error: float | None = None
    test_error: float | None = None


@dataclass
class History:
    """Epochs of one run, in order."""

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def test_accuracy(self) -> float:
        """Test accuracy after the last epoch, the figure the papers report.

        Raises ValueError where there is none: in regression, or without looking at the test set.
        """
        accuracy = self.epochs[-1].test_accuracy
        if accuracy is None:
            raise ValueError(
                "the run has no test accuracy: "
                + (
                    "it did not look at the test set after its last epoch"
                    if self.epochs[-1].test_error is None
                    else "regression has none; read the test_error of its epochs"
                )
            )
        return accuracy

    @property
    def seconds_per_epoch(self) -> float:
        """Median training time of an epoch."""
        return float(np.median([row.seconds for row in self.epochs]))

    def rows(self) -> list[dict[str, Any]]:
        """Return the epochs as JSON-able records."""
        return [asdict(row) for row in self.epochs]

"""The last stage: learning rate, weight decay and batch size, by Gaussian process.

Deep-n-Cheap's ranges are wider and its batch size linear (`presets`); the published searches ended
within 1e-3..3e-3 of four decades of learning rate, so ours are centred on 1e-3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dnc_search.kernel import Component
from dnc_search.parameters import Integer, Parameter, Real, Value
from dnc_search.space import Bayesian
from dnc_search.spaces.components import number


@dataclass(frozen=True)
class TrainingRanges:
    """What stage 3 may choose from.

    A weight decay drawn below `no_decay_below` becomes 0. The batch size is drawn, and compared,
    on a log scale unless `batch_log` is false. Raises ValueError for empty ranges.
    """

    learning_rate: tuple[float, float]
    weight_decay: tuple[float, float]
    no_decay_below: float
    batch_size: tuple[int, int]
    batch_log: bool

    def __post_init__(self) -> None:
        for parameter in self._drawn:
            if parameter.low <= 0:
                raise ValueError(f"{parameter.name} must start above 0, got {parameter.low}")
        if self.no_decay_below < 0:
            raise ValueError(f"no_decay_below must be at least 0, got {self.no_decay_below}")

    @property
    def _drawn(self) -> tuple[Real | Integer, ...]:
        return (
            Real("learning_rate", *self.learning_rate, log=True),
            Real("weight_decay", *self.weight_decay, log=True),
            Integer("batch_size", *self.batch_size, log=self.batch_log),
        )

    def stage(self, *, initial: int, steps: int) -> Bayesian:
        """Return the stage, of `initial` quasi-random points and `steps` proposed ones."""
        rate, decay, batch = self._drawn
        # 0 among its values takes the log scale from it
        allowed = Real("weight_decay", 0.0, decay.high) if self.no_decay_below else decay
        parameters: tuple[Parameter, ...] = (rate, allowed, batch)
        return Bayesian(
            *("training", parameters, self._components()),
            decode=self._decode,
            initial=initial,
            steps=steps,
        )

    def _decode(self, point: Sequence[float]) -> dict[str, Value]:
        values: dict[str, Value] = {
            parameter.name: parameter.from_unit(u)
            for parameter, u in zip(self._drawn, point, strict=True)
        }
        if float(values["weight_decay"]) < self.no_decay_below:
            values["weight_decay"] = 0.0
        return values

    def _components(self) -> tuple[Component, ...]:
        return tuple(
            number(parameter.name, parameter.low, parameter.high, log=parameter.log)
            for parameter in self._drawn
        )

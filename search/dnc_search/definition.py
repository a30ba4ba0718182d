"""What a search is: everything that decides its results, as one record that the ledger keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, get_args

from dnc_search.score import check_weights
from dnc_sparse.experiment import Task

SamplerName = Literal["ramp", "tpe", "gp", "random"]
PrunerName = Literal["none", "asha", "hyperband", "median", "curve"]
FilterName = Literal["none", "naswot", "synflow", "parameters"]


@dataclass(frozen=True)
class Search:
    """Everything that decides what a search finds.

    `space` is the record that `dnc_search.spaces.space_record` gives, `settings` how each candidate
    is trained, `shape` the fields of the `Shape` that its data ask for, `data_digest` the SHA-256
    of a data set that came as a file. `start` are configurations found elsewhere: with some, the
    search begins with these and only decides how they are trained. `penalty` has the share of each
    complexity in f_c; any number of `w_c` are searched for at once. `initial` and `steps` are
    trials of each Bayesian stage, those of the space itself where None. The winners are trained
    anew `final_seeds` times for `final_epochs` (as many as candidates where None).

    Raises ValueError for a value out of range.
    """

    name: str
    data: str
    space: Mapping[str, Any]
    settings: Mapping[str, Any]
    w_c: tuple[float, ...] = (0.0,)
    penalty: Mapping[str, float] = field(default_factory=lambda: {"parameters": 1.0})
    data_options: Mapping[str, Any] = field(default_factory=dict)
    data_digest: str | None = None
    shape: Mapping[str, Any] = field(default_factory=dict)
    start: tuple[Mapping[str, Any], ...] = ()
    validation_fraction: float = 0.2
    seed: int = 0
    initial: int | None = None
    steps: int | None = None
    sampler: SamplerName = "ramp"
    pruner: PrunerName = "none"
    filter: FilterName = "none"
    final_seeds: int = 3
    final_epochs: int | None = None

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"a search needs a name without '/', got {self.name!r}")
        object.__setattr__(self, "w_c", tuple(float(w) for w in self.w_c))
        object.__setattr__(self, "start", tuple(dict(config) for config in self.start))
        if not self.w_c or len(set(self.w_c)) < len(self.w_c):
            raise ValueError(f"w_c must be one number or several that differ, got {self.w_c}")
        for w in self.w_c:
            check_weights(w, self.penalty)
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"the validation fraction must lie between 0 and 1, got {self.validation_fraction}"
            )
        _at_least(2, initial=self.initial)
        _at_least(0, steps=self.steps, seed=self.seed, final_seeds=self.final_seeds)
        _at_least(1, final_epochs=self.final_epochs)
        _one_of(get_args(SamplerName), sampler=self.sampler)
        _one_of(get_args(PrunerName), pruner=self.pruner)
        _one_of(get_args(FilterName), filter=self.filter)
        if self.filter != "none" and any(self.w_c):
            raise ValueError(
                f"the {self.filter} filter foretells the error and knows no complexity, but w_c is "
                f"{', '.join(f'{w:g}' for w in self.w_c)}; give a w_c of 0, or no filter"
            )
        if self.pruner not in ("none", "curve") and len(self.w_c) > 1:
            raise ValueError(
                f"the {self.pruner} pruner compares one figure of each candidate, but there are "
                f"{len(self.w_c)} w_c; give one w_c, or the pruner curve or none"
            )

    @property
    def epochs_of_finals(self) -> int:
        """Epochs of each final run."""
        return int(self.final_epochs or self.settings["epochs"])

    def record(self) -> dict[str, Any]:
        """Return the definition as JSON can hold it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Rebuild a definition. Raises ValueError for fields that this version does not know."""
        known = {entry.name for entry in fields(cls)}
        unknown = sorted(set(record) - known)
        if unknown:
            raise ValueError(
                f"the ledger's definition has fields that this version does not know: "
                f"{', '.join(unknown)}; use the version of dnc-sparse that wrote it"
            )
        return cls(**record)

    def differences(self, before: Search) -> list[str]:
        """Return what differs from a definition `before`, one text each; none for the same search.

        Where the files of the data lie does not matter, only what is in them.
        """
        now, then = self.record(), before.record()
        if self.data_digest is not None and self.data_digest == before.data_digest:
            now["data"] = then["data"]
        return list(_changes("", then, now))


def digest_of(data: str) -> str | None:
    """Return the SHA-256 of a data set given as an .npz, None for one known by its name.

    Raises FileNotFoundError without the file.
    """
    identity = Task(data=data, recipe="paper").identity()["data"]
    return None if identity == data else str(identity)


def _changes(name: str, then: Any, now: Any) -> Iterator[str]:
    if not (isinstance(then, dict) and isinstance(now, dict)):
        if then != now:
            yield f"{name} was {then!r}, now {now!r}"
        return
    for key in {**then, **now}:
        yield from _changes(f"{name}.{key}".lstrip("."), then.get(key), now.get(key))


def _at_least(limit: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < limit:
            raise ValueError(f"{name} must be {limit} or more, got {value}")


def _one_of(known: tuple[str, ...], **values: str) -> None:
    for name, value in values.items():
        if value not in known:
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(known)}")

"""A search put together from its definition: its course, and what trains its candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dnc_search.definition import Search, digest_of
from dnc_search.evaluation import (
    Evaluation,
    OnEpoch,
    Settings,
    count,
    evaluate,
    evaluate_final,
    measure_baseline,
    promise,
    shape_of,
)
from dnc_search.measures import measure
from dnc_search.parameters import Config
from dnc_search.score import score
from dnc_search.space import Grid, Shape, Space, Stage
from dnc_search.spaces import space_from_record
from dnc_search.stages import Course
from dnc_sparse.checkpoint import make_folder, write_weights
from dnc_sparse.data import DataSet, check_classes, load, split_validation

WEIGHTS = "weights"
# stages of a search that starts from networks found elsewhere
TRANSFERRED, TRAINING = "transferred", "training"


@dataclass(frozen=True)
class Training:
    """Trains candidates on data in memory; see `worker.Evaluator`.

    Winners train as `final_settings` say, and their weights go to `folder`/weights.
    """

    space: Space
    data: DataSet
    settings: Settings
    final_settings: Settings
    folder: Path

    @property
    def epochs(self) -> int:
        """Epochs that a candidate is trained for."""
        return self.settings.epochs

    def counted(self, config: Config) -> Mapping[str, float]:
        """Return the complexities that are known without training."""
        return count(self.space, config, self.data, self.settings)

    def baseline(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        """Measure the largest network."""
        return measure_baseline(self.space, self.data, self.settings, on_epoch)

    def candidate(self, config: Config, seed: int, on_epoch: OnEpoch) -> Evaluation:
        """Train a candidate, and validate it."""
        return evaluate(self.space, config, self.data, self.settings, seed, on_epoch)

    def final(self, config: Config, seed: int, slot: int, on_epoch: OnEpoch) -> Evaluation:
        """Train a winner on all but the test set, test it once, and keep its weights."""
        path = weights_of(self.folder, slot)
        make_folder(path.parent)
        return evaluate_final(
            *(self.space, config, self.data, self.final_settings, seed, on_epoch),
            keep=lambda model: write_weights(path, model),
        )


def weights_of(folder: Path, slot: int) -> Path:
    """Return the file with the weights of a slot of the final stage."""
    return folder / WEIGHTS / f"final-{slot}.safetensors"


def settings_of(search: Search) -> Settings:
    """Return how the candidates of a search are trained and measured."""
    return Settings(**search.settings)


def load_data(search: Search, data_dir: Path | None) -> DataSet:
    """Return the data of a search with a validation split: their own, or one made of the training.

    Raises ValueError when a file is not the one that the search began with, for validation or test
    samples of a single class, and for classes that are never trained.
    """
    digest = digest_of(search.data)
    if digest != search.data_digest:
        raise ValueError(
            f"{search.data} has changed since the search began (sha256 {str(digest)[:12]} instead "
            f"of {str(search.data_digest)[:12]}); restore it, or begin another search"
        )
    data = load(search.data, None if data_dir is None else str(data_dir), **search.data_options)
    if data.validation is None:
        # one split for all seeds of a search: what is compared must be comparable
        data = split_validation(data, search.validation_fraction)
    _check_labels(data)
    return data


def _check_labels(data: DataSet) -> None:
    if data.is_regression:
        return
    assert data.validation is not None
    taught = set(data.train.y.tolist())
    for part, split in (("validation", data.validation), ("test", data.test)):
        found = set(split.y.tolist())
        if not found <= taught:
            raise ValueError(
                f"{part} samples of {data.name} are of class "
                f"{', '.join(map(str, sorted(found - taught)))}, of which there is no training "
                f"sample; mend the labels, or leave these samples out"
            )
        if len(found) == 1:
            out = ", or leave x_val and y_val out to have a part of the training samples taken"
            raise ValueError(
                f"all {len(split)} {part} samples of {data.name} are of class {found.pop()}, "
                f"so every network that always says so would have no error; give samples of each "
                f"class{out if part == 'validation' else ''}"
            )
    check_classes(data)


def shape_from(search: Search) -> Shape:
    """Return what the data of a search ask of a network."""
    image = search.shape["image"]
    return Shape(**{**search.shape, "image": None if image is None else tuple(image)})


def course_of(search: Search, space: Space, shape: Shape) -> Course:
    """Return the course of a search in its space.

    One that starts from configurations found elsewhere takes these in place of the stages before
    the one of training. Raises ValueError for a space without that stage then, and for measures
    that are unknown, penalised but not taken, or not known in time for the pruner.
    """
    taken = settings_of(search).measures
    missing = [name for name in search.penalty if name not in taken]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} is penalised but not measured; measured: {', '.join(taken)}"
        )
    late = [name for name in search.penalty if measure(name).kind != "counted"]
    if late and search.pruner != "none" and any(search.w_c):
        raise ValueError(
            f"the {search.pruner} pruner needs complexities that follow from the network alone, "
            f"but {', '.join(late)} is measured; penalise another, or use no pruner"
        )
    stages = space.stages(shape)
    return Course(
        search,
        _from_start(search, stages) if search.start else stages,
        complete=partial(space.complete, shape=shape),
        largest=space.complete(space.largest(shape), shape),
        score=partial(score, penalty=search.penalty),
    )


def _from_start(search: Search, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    training = [stage for stage in stages if stage.name == TRAINING]
    if not training:
        raise ValueError(
            f"the space has no stage {TRAINING!r}, which a search of networks found elsewhere "
            f"consists of; it has {', '.join(stage.name for stage in stages)}"
        )
    return Grid(TRANSFERRED, lambda _: [dict(config) for config in search.start]), *training


def assemble(
    search: Search, *, folder: Path, data_dir: Path | None = None, space_file: Path | None = None
) -> tuple[Course, Training]:
    """Return the course of a search and what trains its candidates.

    `space_file` is the file of a user's space where it lies elsewhere on this machine.

    Raises ValueError for what does not fit together, and as the loading of data and space does.
    """
    data, space = load_data(search, data_dir), space_from_record(search.space, space_file)
    settings = settings_of(search)
    final = replace(settings, epochs=search.epochs_of_finals)
    course = course_of(search, space, shape_of(data))
    if search.filter != "none":

        def foretell(config: Config, seed: int) -> float | None:
            return promise(space, config, data, settings, search.filter, seed)

        course = replace(course, promise=foretell)
    return course, Training(space, data, settings, final, folder)

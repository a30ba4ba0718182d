"""Many machines on one data set: each result is kept as soon as it is there.

| name          | meaning                                                                     |
|---------------|-----------------------------------------------------------------------------|
| configuration | what varies: lanes, edges, format, P, kind, hazard policy, seed             |
| study         | what does not: data, inputs, the rest of the machine                        |
| digest        | of configuration and study; names the file of the result                    |

A result is a file of its own, written whole or not at all, so a sweep that is killed goes on where
it was: the same study finds its results, any other has other digests.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dnc_hw.config import machine_from
from dnc_hw.description import KINDS, nearest_fan_out, with_kind
from dnc_hw.fixed_point import FixedPoint
from dnc_hw.issue import HAZARD_POLICIES
from dnc_hw.machine import Machine
from dnc_hw.parameters import initial_parameters
from dnc_hw.rates import energy_of, rates_of
from dnc_hw.resources import resources_of
from dnc_hw.simulation import simulate
from dnc_hw.storage import total_bits, total_words
from dnc_hw.validation import WINDOW
from dnc_sparse import __version__
from dnc_sparse.checkpoint import make_folder, write_json
from dnc_sparse.data import DataSet, Split, check_classes, load
from dnc_sparse.processes import passive_waiting

RESULTS = "results"


@dataclass(frozen=True)
class Configuration:
    """One machine of a sweep; `number` is (integer_bits, fraction_bits)."""

    lanes: tuple[int, ...]
    fan_out: tuple[int, ...]
    number: tuple[int, int]
    pipeline_clocks: int
    kind: str
    hazards: str
    seed: int


@dataclass(frozen=True)
class Study:
    """What all configurations share.

    `rest` is the description of the machine without what varies; `samples` None stands for all of
    the training split; without `shared` initial values every edge has its own.
    """

    rest: Mapping[str, Any]
    data: str
    data_dir: str | None = None
    data_options: Mapping[str, Any] = field(default_factory=dict)
    samples: int | None = None
    epochs: int = 1
    shared: bool = True

    def load(self) -> DataSet:
        """Load the data, the training split cut to `samples`."""
        return _load(self.data, self.data_dir, json.dumps(dict(self.data_options)), self.samples)

    def digest(self, configuration: Configuration, data_digest: str) -> str:
        """Name the result of a configuration on data with this digest."""
        parts = {
            "version": __version__,
            "rest": dict(self.rest),
            "data": data_digest,
            "epochs": self.epochs,
            "shared": self.shared,
            **asdict(configuration),
        }
        text = json.dumps(parts, sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def grid(
    base: Mapping[str, Any],
    *,
    lanes: Sequence[tuple[int, ...]] = (),
    fan_out: Sequence[tuple[int, ...]] = (),
    density: Sequence[float] = (),
    number: Sequence[FixedPoint] = (),
    pipeline_clocks: Sequence[int] = (),
    kind: Sequence[str] = (),
    hazards: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
) -> list[Configuration]:
    """Combine every value of every axis; an empty axis has the value of `base`.

    Raises ValueError for fan_out and density together, an unknown kind or policy, and a base
    without layers.
    """
    if fan_out and density:
        raise ValueError("fan_out and density both choose the edges; give one of them")
    missing = [key for key in ("layers", "fan_out", "lanes", "number") if key not in base]
    if missing:
        raise ValueError(f"a sweep starts from a whole machine; {', '.join(missing)} missing")
    for name, given, known in (("kind", kind, KINDS), ("hazards", hazards, HAZARD_POLICIES)):
        for value in given:
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}; choose {', '.join(known)}")
    if density:
        fan_out = [nearest_fan_out(tuple(base["layers"]), each) for each in density]
    own = base["number"] if isinstance(base["number"], FixedPoint) else FixedPoint(**base["number"])
    own_kind = str(base.get("pattern", {}).get("kind", KINDS[0]))
    axes = (
        lanes or [tuple(base["lanes"])],
        fan_out or [tuple(base["fan_out"])],
        [(n.integer_bits, n.fraction_bits) for n in number or [own]],
        pipeline_clocks or [int(base.get("pipeline_clocks", Machine.pipeline_clocks))],
        kind or [own_kind],
        hazards or [str(base.get("hazards", Machine.hazards))],
        seeds,
    )
    # values that were asked for twice, or round to one, make one configuration
    return list(dict.fromkeys(Configuration(*values) for values in product(*axes)))


# keys of a listed machine, the axis of `grid` each is, and how its value becomes one of that axis
LISTED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "lanes": ("lanes", tuple),
    "fan_out": ("fan_out", tuple),
    "density": ("density", float),
    "format": ("number", lambda bits: FixedPoint(*bits)),
    "pipeline": ("pipeline_clocks", int),
    "kind": ("kind", str),
    "hazards": ("hazards", str),
}


def listed(base: Mapping[str, Any], path: Path, seeds: Sequence[int] = (0,)) -> list[Configuration]:
    """Return the machines that a TOML file lists as tables [[machine]]; `base` has the rest.

    Raises FileNotFoundError for a file that is not there; ValueError for text that is not TOML, a
    file without machines, unknown keys, values of another type, and as `grid`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no list of machines {path}; name a .toml that exists")
    try:
        tables = tomllib.loads(path.read_text()).get("machine")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(tables, list) or not tables:
        raise ValueError(f"{path} lists no machine; begin each with a line [[machine]]")
    found: list[Configuration] = []
    for place, table in enumerate(tables, 1):
        for key in table:
            if key not in LISTED:
                known = ", ".join(LISTED)
                raise ValueError(f"machine {place} of {path}: unknown key {key!r}; known: {known}")
        axes: dict[str, Any] = {}
        for key, value in table.items():
            axis, convert = LISTED[key]
            try:
                axes[axis] = [convert(value)]
            except TypeError as error:
                raise ValueError(
                    f"machine {place} of {path}: {key} cannot be {value!r}: {error}"
                ) from error
        found += grid(base, **axes, seeds=seeds)
    return list(dict.fromkeys(found))


def fixed_part(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a description a sweep does not vary."""
    varied = ("lanes", "fan_out", "number", "pipeline_clocks", "hazards", "pattern", "starts")
    return {key: value for key, value in base.items() if key not in varied}


def machine_of(study: Study, configuration: Configuration) -> Machine:
    """Build the machine of a configuration; ValueError where it is not legal."""
    described = {
        **study.rest,
        "lanes": configuration.lanes,
        "fan_out": configuration.fan_out,
        "number": FixedPoint(*configuration.number),
        "pipeline_clocks": configuration.pipeline_clocks,
        "hazards": configuration.hazards,
    }
    return machine_from(with_kind(described, configuration.kind, configuration.seed))


def measure(study: Study, configuration: Configuration) -> dict[str, Any]:
    """Train and test one configuration; returns its figures, or why the machine is not legal."""
    begun = time.perf_counter()
    record: dict[str, Any] = asdict(configuration)
    try:
        machine = machine_of(study, configuration)
    except ValueError as error:
        return {**record, "illegal": str(error)}
    data = study.load()
    start = initial_parameters(machine, configuration.seed, shared=study.shared)
    training = simulate(machine, data.train, epochs=study.epochs, parameters=start)
    test = simulate(machine, data.test, train=False, parameters=training.parameters)
    needs, rates = resources_of(machine), rates_of(machine)
    edges = sum(order.n_edges for order in machine.orders)
    return {
        **record,
        "density": edges / sum(order.n_in * order.n_out for order in machine.orders),
        "edges": edges,
        "width_bits": machine.number.width_bits,
        "cycle_clocks": machine.cycle_clocks,
        "input_us": rates.input_us,
        "inputs_per_s": rates.inputs_per_s,
        "training_ms": training.time_s * 1000,
        "last_accuracy": float(training.correct[-WINDOW:].mean()),
        "test_accuracy": test.accuracy,
        "clashes": sum(len(issue.clashes) for issue in machine.issues),
        "hazards_found": sum(len(issue.hazards) for issue in machine.issues),
        "stall_clocks": sum(i.clash_stall_clocks + i.hazard_stall_clocks for i in machine.issues),
        "lanes_use": min(each.lanes_use for each in training.junctions),
        "storage_words": total_words(machine),
        "storage_bits": total_bits(machine),
        **asdict(needs),
        "device": machine.device.name,
        "fits": not needs.shortage(machine.device),
        "energy_nj_estimate": energy_of(machine).input_nj,
        "simulated_in_s": time.perf_counter() - begun,
    }


class Sweep:
    """A study over configurations whose results lie in a folder, which has those of no other.

    Raises RuntimeError where the folder cannot be made or has results of another study.
    """

    def __init__(self, study: Study, configurations: Sequence[Configuration], folder: Path) -> None:
        make_folder(folder / RESULTS)
        self.study = study
        self.configurations = tuple(configurations)
        found = data_digest(study.load())
        self._paths = {
            each: folder / RESULTS / f"{study.digest(each, found)}.json" for each in configurations
        }
        self._others = [
            path
            for path in sorted((folder / RESULTS).glob("*.json"))
            if path not in self._paths.values()
        ]
        foreign = [path for path in self._others if not _is_of(study, found, path)]
        if foreign:
            raise RuntimeError(
                f"{folder} holds results of another study (other data, samples, epochs, device "
                f"or rest of the machine, or of another release), such as {foreign[0].name}; "
                f"name another folder"
            )

    @property
    def missing(self) -> list[Configuration]:
        """Configurations without a result."""
        return [each for each, path in self._paths.items() if not path.is_file()]

    def run(self, jobs: int = 1) -> Iterator[Configuration]:
        """Measure what is missing in `jobs` processes and yield each configuration as it is kept.

        Raises ImportError, with the way out, where joblib is missing.
        """
        missing = self.missing
        if jobs == 1 or len(missing) < 2:
            for each in missing:
                yield _keep(self.study, each, self._paths[each])
            return
        joblib = import_joblib()
        work = joblib.delayed(_keep)
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
        with passive_waiting():
            yield from parallel(work(self.study, each, self._paths[each]) for each in missing)

    def results(self) -> list[dict[str, Any]]:
        """Return the results there are, in the order of the configurations, then the study's rest.

        The rest were asked for by earlier sweeps into this folder.
        """
        paths = [path for path in self._paths.values() if path.is_file()]
        return [json.loads(path.read_text()) for path in [*paths, *self._others]]


def by_machine(results: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Group results that differ by their seed only."""
    names = [each.name for each in fields(Configuration) if each.name != "seed"]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for each in results:
        groups.setdefault(repr([each[name] for name in names]), []).append(each)
    return list(groups.values())


def mean(results: Sequence[Mapping[str, Any]], column: str) -> float:
    """Return the mean of a column."""
    return float(sum(each[column] for each in results)) / len(results)


def import_joblib() -> Any:
    """Import joblib. Raises ImportError, with the way out, where it is missing."""
    try:
        import joblib
    except ImportError as error:
        raise ImportError(
            "a sweep in several processes needs joblib: pip install 'dnc-sparse[hw]', or --jobs 1"
        ) from error
    return joblib


def data_digest(data: DataSet) -> str:
    """Return a digest of the samples that a sweep trains and tests with."""
    digest = hashlib.sha256()
    for split in (data.train, data.test):
        digest.update(np.asarray(split.x).tobytes())
        digest.update(np.asarray(split.y).tobytes())
    return digest.hexdigest()[:20]


def _is_of(study: Study, found: str, path: Path) -> bool:
    """Say whether a file is the result of a configuration of this study."""
    record = json.loads(path.read_text())
    values = {each.name: record.get(each.name) for each in fields(Configuration)}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return path.stem == study.digest(Configuration(**{**values, **lists}), found)


def _keep(study: Study, configuration: Configuration, path: Path) -> Configuration:
    if multiprocessing.parent_process() is not None or "LOKY_WORKER" in os.environ:
        # Ctrl-C reaches the whole group of processes; the first one ends the others
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_json(path, measure(study, configuration))
    return configuration


@lru_cache(maxsize=1)
def _load(data: str, data_dir: str | None, options: str, samples: int | None) -> DataSet:
    loaded = load(data, data_dir, **json.loads(options))
    check_classes(loaded)
    if samples is None:
        return loaded
    if samples > len(loaded.train):
        raise ValueError(
            f"{samples} samples of a training split of {len(loaded.train)}; take at most that"
        )
    train = Split(loaded.train.x[:samples], loaded.train.y[:samples])
    return DataSet(loaded.name, train, loaded.test, None, loaded.n_classes)

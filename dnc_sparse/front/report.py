"""What a front showed: its points, who is ahead at equal cost and by how much, as text and JSON.

Which networks are on a front is decided by their validation accuracies, so that the test accuracies
shown are of networks that the tests did not choose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from dnc_sparse.compare_report import accuracy_text
from dnc_sparse.front.costs import Cost, Kernels
from dnc_sparse.front.networks import Network
from dnc_sparse.front.runs import FrontTask, Trained
from dnc_sparse.stats import difference_interval, mean_interval


@dataclass(frozen=True)
class Point:
    """One network with the kernels it was timed with; accuracies are shares, not percent.

    `validation` is that of its best learning rate, `rate_at_edge` says that this was the smallest
    or largest tried. `seconds` are those of the whole training.
    """

    network: Network
    kernels: Kernels
    rate: float
    rate_at_edge: bool
    parameters: int
    validation: float
    tests: tuple[float, ...]
    test_accuracy: float
    half_width: float | None
    seconds_per_epoch: float
    seconds: float
    peak_mib: float | None


# what can be spent, and what that is called
COSTS: Mapping[str, tuple[str, Callable[[Point], float]]] = {
    "seconds": ("training time", lambda point: point.seconds),
    "parameters": ("parameters", lambda point: point.parameters),
    "memory": ("memory", lambda point: point.peak_mib or 0.0),
}


def spent_on(rows: Sequence[Point]) -> dict[str, tuple[str, Callable[[Point], float]]]:
    """Return the costs that were measured of all points."""
    measured = all(row.peak_mib is not None for row in rows)
    return {what: cost for what, cost in COSTS.items() if measured or what != "memory"}


@dataclass(frozen=True)
class Lead:
    """At one cost, the best sparse network against the best dense one that cost no more.

    `difference` is sparse minus dense, of mean test accuracies; `half_width` that of its 95 %
    interval (Welch), None with a single seed.
    """

    cost: float
    sparse: Point
    dense: Point
    difference: float
    half_width: float | None


def points(
    task: FrontTask, trained: Sequence[Trained], costs: Mapping[tuple[Network, Kernels], Cost]
) -> list[Point]:
    """Return a point for each network and each of its kernels."""
    by_network = {one.network: one for one in trained}
    return [
        _point(task, by_network[network], kernels, cost)
        for (network, kernels), cost in costs.items()
    ]


def _point(task: FrontTask, runs: Trained, kernels: Kernels, cost: Cost) -> Point:
    mean, half_width = mean_interval(runs.tests)
    edges = (min(task.rates), max(task.rates))
    return Point(
        network=runs.network,
        kernels=kernels,
        rate=runs.rate,
        rate_at_edge=len(task.rates) > 1 and runs.rate in edges,
        parameters=runs.parameters,
        validation=max(runs.validation),
        tests=runs.tests,
        test_accuracy=mean,
        half_width=half_width,
        seconds_per_epoch=cost.seconds_per_epoch,
        seconds=cost.seconds_per_epoch * task.epochs,
        peak_mib=cost.peak_mib,
    )


def families(rows: Sequence[Point]) -> dict[str, list[Point]]:
    """Return the points of each front: "sparse", and "dense" by each of its kernels."""
    groups: dict[str, list[Point]] = {}
    for row in rows:
        name = f"dense, {row.kernels}" if row.network.is_dense else "sparse"
        groups.setdefault(name, []).append(row)
    return groups


def front(rows: Sequence[Point], cost: Callable[[Point], float]) -> list[Point]:
    """Return the points that no cheaper one equals in validation accuracy, by rising cost."""
    best: list[Point] = []
    for row in sorted(rows, key=lambda row: (cost(row), -row.validation)):
        if not best or row.validation > best[-1].validation:
            best.append(row)
    return best


def leads(
    sparse: Sequence[Point], dense: Sequence[Point], cost: Callable[[Point], float]
) -> list[Lead]:
    """Compare two fronts at every cost where one of them steps, within the costs of both."""
    ours, theirs = front(sparse, cost), front(dense, cost)
    lowest = max(cost(ours[0]), cost(theirs[0]))
    highest = min(max(map(cost, sparse)), max(map(cost, dense)))
    at = sorted({cost(row) for row in [*ours, *theirs] if lowest <= cost(row) <= highest})
    return [
        _lead(spent, _affordable(ours, spent, cost), _affordable(theirs, spent, cost))
        for spent in at
    ]


def _affordable(rows: Sequence[Point], spent: float, cost: Callable[[Point], float]) -> Point:
    return [row for row in rows if cost(row) <= spent][-1]


def _lead(cost: float, sparse: Point, dense: Point) -> Lead:
    return Lead(cost, sparse, dense, *difference_interval(sparse.tests, dense.tests))


def as_good(sparse: Sequence[Point], dense: Sequence[Point]) -> tuple[Point, Point] | None:
    """Return the best dense network and the fastest sparse one on its front that is as good."""
    best = max(dense, key=lambda row: row.validation)
    equal = [
        row for row in front(sparse, COSTS["seconds"][1]) if row.test_accuracy >= best.test_accuracy
    ]
    return (best, equal[0]) if equal else None


def sentences(task: FrontTask, rows: Sequence[Point]) -> list[str]:
    """Say what was seen at equal time, at equal size and at equal accuracy, a line each."""
    groups = families(rows)
    sparse = groups.pop("sparse", [])
    if not sparse or not groups:
        return []
    (_, dense), *others = groups.items()
    time, size = COSTS["seconds"][1], COSTS["parameters"][1]
    epoch = 1 / task.epochs
    against = "".join(
        f"; against {other}, {_ahead(leads(sparse, rows, time), ' s', epoch)}"
        for other, rows in others
    )
    return [
        f"At equal time an epoch, {_ahead(leads(sparse, dense, time), ' s', epoch)}{against}.",
        f"At equal parameters, {_ahead(leads(sparse, dense, size), '')}.",
        _equal_accuracy(sparse, dense),
    ]


def _ahead(seen: Sequence[Lead], unit: str, scale: float = 1.0) -> str:
    """Say from which cost to which sparse is ahead, and by how many points."""
    if not seen:
        return "nothing can be said: the costs of sparse and dense networks do not overlap"
    differences = [100 * lead.difference for lead in seen]
    low, high = min(differences), max(differences)
    if low > 0:
        what = f"sparse is ahead by {low:.2f} to {high:.2f} points"
    elif high < 0:
        what = f"sparse is behind by {-high:.2f} to {-low:.2f} points"
    else:
        what = f"sparse minus dense is {low:+.2f} to {high:+.2f} points"
    where = f"{_short(seen[0].cost * scale)} to {_short(seen[-1].cost * scale)}{unit}"
    return f"{where}: {what}, median {median(differences):+.2f}"


def _equal_accuracy(sparse: Sequence[Point], dense: Sequence[Point]) -> str:
    pair = as_good(sparse, dense)
    if pair is None:
        best = max(dense, key=lambda row: row.validation)
        return (
            f"No sparse network here is as good as the best dense one "
            f"({best.network.name}, {100 * best.test_accuracy:.2f} %)."
        )
    best, equal = pair
    return (
        f"At equal accuracy: {best.network.name} by {best.kernels} reaches "
        f"{100 * best.test_accuracy:.2f} % in {best.seconds:.1f} s; {equal.network.name} reaches "
        f"{100 * equal.test_accuracy:.2f} % in {equal.seconds:.1f} s, with "
        f"{equal.seconds / best.seconds:.2f} of the time and "
        f"{equal.parameters / best.parameters:.2f} of the parameters."
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def table(rows: Sequence[Point], title: str) -> Table:
    """Return all points as a table for the terminal; a star marks those on a front in seconds."""
    result = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    result.add_column("network")
    result.add_column("kernels")
    for heading in ("parameters", "rate", "s / epoch", "peak MiB", "validation %", "test %"):
        result.add_column(heading, justify="right")
    cost = COSTS["seconds"][1]
    for group in families(rows).values():
        best = front(group, cost)
        for row in sorted(group, key=cost):
            result.add_row(
                row.network.name + (" *" if row in best else ""),
                row.kernels,
                f"{row.parameters:,}",
                f"{row.rate:g}" + ("!" if row.rate_at_edge else ""),
                f"{row.seconds_per_epoch:.3f}",
                "-" if row.peak_mib is None else f"{row.peak_mib:.1f}",
                f"{100 * row.validation:.2f}",
                accuracy_text(row.test_accuracy, row.half_width),
            )
    return result


def record(task: FrontTask, rows: Sequence[Point], machine: dict[str, Any]) -> dict[str, Any]:
    """Return everything as a JSON-able record: task, points, fronts and leads by cost."""
    groups = families(rows)
    sparse = groups.get("sparse", [])
    return {
        "machine": machine,
        "task": asdict(task),
        "points": [asdict(row) | {"name": row.network.name} for row in rows],
        "fronts": {
            what: {
                name: [row.network.name for row in front(group, cost)]
                for name, group in groups.items()
            }
            for what, (_, cost) in spent_on(rows).items()
        },
        "leads": {
            what: {
                name: [
                    asdict(lead)
                    | {"sparse": lead.sparse.network.name, "dense": lead.dense.network.name}
                    for lead in leads(sparse, group, cost)
                ]
                for name, group in groups.items()
                if sparse and name != "sparse"
            }
            for what, (_, cost) in spent_on(rows).items()
        },
        "sentences": sentences(task, rows),
    }

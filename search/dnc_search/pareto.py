"""Candidates that no other beats in error and complexity at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dnc_search.record import Record

# error, complexity
Point = tuple[float, float]


def front(records: Sequence[Record], complexity: str) -> list[Record]:
    """Return the records on the front over (error, complexity), the simplest first.

    A record is on it when none is better in one and at least as good in the other; of several that
    are equal in both, the earliest. Those that failed, or lack the measure, are left out.
    """
    able = [r for r in records if r.state != "failed" and complexity in r.measures]
    # sorting is stable, so equal ones stay in their order
    rising = sorted(able, key=lambda record: (record.measures[complexity], record.error))
    best = float("inf")
    found = []
    for record in rising:
        if record.error < best:
            best = record.error
            found.append(record)
    return found


def hypervolume(points: Iterable[Point], reference: Point) -> float:
    """Return the area that the points dominate, up to the reference (E. Zitzler, L. Thiele 1998).

    A point counts only where it is better than the reference in both.
    """
    worst_error, most_complex = reference
    area, best = 0.0, worst_error
    for error, complexity in sorted(points, key=lambda point: (point[1], point[0])):
        if error < best and complexity < most_complex:
            area += (best - error) * (most_complex - complexity)
            best = error
    return area

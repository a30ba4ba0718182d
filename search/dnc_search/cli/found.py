"""What the ledger has found, for the commands that tell of it."""

from __future__ import annotations

from dnc_search.assembly import course_of, shape_from
from dnc_search.cli.worker import defined
from dnc_search.findings import Findings
from dnc_search.ledger import Ledger
from dnc_search.record import Record
from dnc_search.spaces import space_from_record
from dnc_search.stages import BASELINE, FINAL


def found(ledger: Ledger) -> Findings:
    """Return the findings of the ledger's search, as far as it is.

    Raises ValueError when the ledger has no such search, or its baseline is not measured yet.
    """
    search = defined(ledger)
    space, shape = space_from_record(search.space), shape_from(search)
    course = course_of(search, space, shape)
    records: dict[str, list[Record]] = {name: ledger.records(name) for name in course.names}
    baseline = records.pop(BASELINE)
    if not baseline:
        raise ValueError(
            f"the search {search.name!r} has only begun: the largest network of its space, which "
            f"all others are compared with, is not measured yet; let it go on (dnc-search run)"
        )
    finals = records.pop(FINAL)
    candidates = [record for stage in records.values() for record in stage]
    return Findings(search, space, shape, baseline[0].measures, candidates, finals)

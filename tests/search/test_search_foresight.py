"""What foretold the errors: a proxy that knows something, and one that repeats the size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from search.found import made_up

from dnc_search.findings import Findings
from dnc_search.foresight import foresight
from dnc_search.report import render


def foreseen() -> Findings:
    """Findings with one proxy that knows the error, and one that knows the size alone."""
    findings = made_up(40)
    rng = np.random.default_rng(0)
    records = []
    for record in findings.able:
        measures = {**record.measures, "error": record.error + 0.05 * rng.random()}
        knows = {"oracle": -measures["error"], "size": 2 * measures["parameters"]}
        records.append(replace(record, measures=measures, proxies=knows))
    return replace(findings, records=records)


def test_foresight_tells_a_proxy_from_the_size_it_repeats() -> None:
    parameters, oracle, size = foresight(foreseen())
    assert (parameters.name, parameters.beyond) == ("parameters", None)
    assert -1 < parameters.rho < -0.1
    assert (oracle.rho, oracle.beyond) == (pytest.approx(-1), pytest.approx(-1))
    assert (size.rho, size.beyond) == (parameters.rho, None)


def test_foresight_agrees_with_the_correlation_of_what_regressions_leave() -> None:
    findings = foreseen()
    rng = np.random.default_rng(1)
    records = [replace(r, proxies={"noise": float(rng.random())}) for r in findings.records]
    found = foresight(replace(findings, records=records))[1]
    kept = [r for r in records if r.state == "complete"]
    columns = ([r.proxies["noise"], r.error, r.measures["parameters"]] for r in kept)
    noise, error, size = stats.rankdata(list(columns), axis=0).T
    left = [y - np.polyval(np.polyfit(size, y, 1), size) for y in (noise, error)]
    assert found.beyond == pytest.approx(np.corrcoef(*left)[0, 1])


def test_foresight_looks_at_finished_networks_of_the_first_stage() -> None:
    findings = foreseen()
    later = [replace(r, stage="training", proxies={"oracle": 0.0}) for r in findings.records]
    more = replace(findings, records=[*findings.records, *later])
    assert foresight(more) == foresight(findings)
    few = replace(findings, records=findings.records[:4])
    assert foresight(few) == foresight(made_up()) == []


def test_the_report_has_the_table_where_proxies_are_recorded() -> None:
    page = render(foreseen())
    assert '<td class="text">oracle</td><td>-1.00</td><td>-1.00</td>' in page
    assert "What was foreseeable" not in render(made_up())

"""A search as one page of HTML: what was found, how it went, and with what settings.

The page holds its pictures and needs no other file and no network.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnc_search import drawing, figures
from dnc_search.findings import Findings, Winner
from dnc_search.foresight import foresight
from dnc_search.record import Record
from dnc_search.templating import template
from dnc_sparse import __version__, checkpoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    # title, what the figure shows, what draws it
    Section = tuple[str, str, Callable[[Findings], Figure]]

RANKED = 10
SECTIONS: tuple[Section, ...] = (
    (
        "Progress",
        "Lower is better; the line is the best so far.",
        figures.progress,
    ),
    (
        "What mattered",
        "How strongly each parameter that a stage decided went with the score in this search: rank "
        "correlation, or correlation ratio for choices. It does not say what causes a good score.",
        figures.importances,
    ),
    ("Learning curves", "Validation error after each epoch; winners in colour.", figures.curves),
)


def write_report(findings: Findings, path: Path) -> None:
    """Write the page, atomically.

    Raises ImportError, with the way out, without matplotlib or jinja2, ValueError when no candidate
    has finished yet, and RuntimeError when the file cannot be written.
    """
    checkpoint.write_atomic(path, render(findings).encode())


def render(findings: Findings) -> str:
    """Return the page. Raises as `write_report`."""
    search = findings.search
    winners = [findings.winner(w_c) for w_c in search.w_c]
    measures = _columns(findings)
    failed = [record for record in findings.records if record.state == "failed"]
    return template("report.html.j2", html=True).render(
        name=search.name,
        state=_state(findings),
        about=_about(findings),
        test_note=_test_note(winners),
        measures=[{"title": name.replace("_", " ")} for name in measures],
        winners=[_winner_row(findings, winner, measures) for winner in winners],
        drawings=_drawings(findings),
        sections=[
            {"title": title, "about": about, "source": _picture(draw(findings))}
            for title, about, draw in (*_fronts(search.penalty), *SECTIONS)
        ],
        foresight=[
            {
                "name": each.name,
                "rho": f"{each.rho:+.2f}",
                "beyond": "-" if each.beyond is None else f"{each.beyond:+.2f}",
            }
            for each in foresight(findings)
        ],
        rankings=[
            {
                "w_c": f"{w_c:g}",
                "rows": [
                    _ranked_row(findings, record, w_c, measures)
                    for record in findings.ranking(w_c)[:RANKED]
                ],
            }
            for w_c in search.w_c
        ],
        failures=[
            {"network": findings.network(record), "why": record.failure} for record in failed
        ],
        made_by=f"dnc-search {__version__}",
    )


def _fronts(penalty: Mapping[str, float]) -> list[Section]:
    """Return a section for each complexity that counts."""
    counting = [name for name, share in penalty.items() if share]
    judged = ", judged by all complexities together" if len(counting) > 1 else ""
    return [
        (
            f"Error against {name.replace('_', ' ')}",
            f"Every candidate's validation error. The line is the front: no candidate is better in "
            f"both. Stars win under some w_c{judged}.",
            partial(figures.pareto, measure=name),
        )
        for name in counting
    ]


def _about(findings: Findings) -> dict[str, str]:
    """Return how the search was set up, in a person's words."""
    search, settings = findings.search, findings.search.settings
    shares = ", ".join(f"{name} {share:g}" for name, share in search.penalty.items())
    stages = dict.fromkeys(record.stage for record in findings.records)
    return {
        "data": ", ".join([search.data, *(f"{n} {v}" for n, v in search.data_options.items())]),
        "space": str(search.space["name"]),
        "stages": ", ".join(stages),
        "each candidate": f"{settings['epochs']} epochs, {settings['schedule']} schedule",
        "validation": (
            f"{100 * search.validation_fraction:g} % of the training samples, "
            f"unless the data bring validation samples"
        ),
        "w_c": ", ".join(f"{w_c:g}" for w_c in search.w_c),
        "complexity": shares,
        "baseline": ", ".join(f"{name} {findings.baseline[name]:,g}" for name in search.penalty),
        "sampler, pruner, filter": f"{search.sampler}, {search.pruner}, {search.filter}",
        "seed": str(search.seed),
    }


def _state(findings: Findings) -> str:
    states: list[str] = [record.state for record in findings.records]
    counts = ", ".join(f"{states.count(state)} {state}" for state in figures.STATES)
    seconds = sum(record.seconds for record in findings.records)
    return (
        f"{len(states)} candidates ({counts}), {findings.epochs} epochs of training, "
        f"{seconds / 60:.1f} minutes of one worker's time."
    )


def _columns(findings: Findings) -> list[str]:
    """Return the complexities to show: those that count, then what every reader asks for."""
    wanted = [*findings.search.penalty, "parameters", "seconds_per_epoch"]
    known = {name for record in findings.able for name in record.measures}
    return [name for name in dict.fromkeys(wanted) if name in known]


def _shared(findings: Findings, record: Record, w_c: float, measures: list[str]) -> dict[str, Any]:
    return {
        "network": findings.network(record),
        "error": _percent(record.error),
        "measures": [_figure(record.measures, name) for name in measures],
        "score": f"{findings.score(record, w_c):.4f}",
    }


def _winner_row(findings: Findings, winner: Winner, measures: list[str]) -> dict[str, Any]:
    test = "-" if winner.test_error is None else _percent(winner.test_error)
    if winner.half_width is not None:
        test += f" ± {100 * winner.half_width:.2f}"
    shared = _shared(findings, winner.record, winner.w_c, measures)
    return shared | {"w_c": f"{winner.w_c:g}", "test": test}


def _ranked_row(
    findings: Findings, record: Record, w_c: float, measures: list[str]
) -> dict[str, Any]:
    training = {
        name: f"{value:.3g}" if isinstance(value := record.config[name], float) else str(value)
        for name in ("learning_rate", "weight_decay", "batch_size")
    }
    return _shared(findings, record, w_c, measures) | training | {"stage": record.stage}


def _test_note(winners: list[Winner]) -> str:
    runs = sorted({len(winner.finals) for winner in winners})
    if runs == [0]:
        return "The final stage has not run yet, so there are no test figures."
    count = str(runs[0]) if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
    return (
        f"Test errors are those of {count} new trainings on all training samples, after the last "
        f"epoch, on samples that the search has never seen; mean and 95 % interval."
    )


def _drawings(findings: Findings) -> list[dict[str, str]]:
    drawn = []
    for same in findings.winners().values():
        record = same[0].record
        model = findings.space.build(record.config, findings.shape, 0)
        values = ", ".join(f"{winner.w_c:g}" for winner in same)
        title = f"w_c = {values}: {findings.network(record)}"
        drawn.append({"about": title, "source": _picture(drawing.network(model, title))})
    return drawn


def _picture(figure: Figure) -> str:
    """Return the figure as a source of an image element."""
    buffer = io.BytesIO()
    # no date and no random names: the same search gives the same page
    with import_module("matplotlib").rc_context({"svg.hashsalt": "", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _figure(measures: Mapping[str, float], name: str) -> str:
    if name not in measures:
        return "-"
    value = measures[name]
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"

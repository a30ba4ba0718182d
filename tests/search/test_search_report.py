"""What is made of findings: the page, its figures, the figures of importance."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
from search.found import SHAPE, SPACE, made_up, with_finals
from torch import nn

from dnc_search import figures
from dnc_search.drawing import connections, network
from dnc_search.importance import importance
from dnc_search.parameters import Config, Value
from dnc_search.report import render, write_report
from dnc_sparse.nn import SparseLinear


def without_presets(config: Config) -> dict[str, Value]:
    return {k: v for k, v in config.items() if k not in ("dropout", "weight_decay")}


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_page_has_every_figure_and_needs_no_other_file(tmp_path: Path) -> None:
    findings = with_finals(made_up())
    write_report(findings, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    # four sections and one drawing for each distinct winner
    assert page.count("<img") == 4 + len(findings.winners())
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    text = text_of(page)
    assert "12 candidates (10 complete, 1 stopped, 1 failed), 42 epochs of training" in text
    assert "out of memory" in text


def test_each_complexity_that_counts_has_its_front() -> None:
    findings = made_up()
    title = "Error against"
    assert text_of(render(findings)).count(title) == 1
    assert f"{title} parameters" in text_of(render(findings))
    shares = {"parameters": 0.0, "seconds_per_epoch": 0.5, "edges": 0.5}
    records = [
        replace(r, measures={**r.measures, "edges": 1.0} if r.measures else {})
        for r in findings.records
    ]
    findings = replace(
        findings,
        search=replace(findings.search, penalty=shares),
        records=records,
        baseline={**findings.baseline, "edges": 2.0},
    )
    text = text_of(render(findings))
    assert text.count(title) == 2
    assert f"{title} seconds per epoch" in text
    assert f"{title} edges" in text
    assert "Stars win under some w_c, judged by all complexities together." in text


def test_a_front_has_the_winners_on_its_own_scale() -> None:
    findings = made_up()
    winner = findings.winner(0.0).record
    for measure in ("parameters", "seconds_per_epoch"):
        ax = figures.pareto(findings, measure).axes[0]
        assert ax.get_xlabel() == measure.replace("_", " ")
        assert ax.get_xscale() == "log"
        stars = {tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "*"}
        assert (winner.measures[measure], 100 * winner.error) in stars
    free = [replace(r, measures={**r.measures, "area": 0.0}) for r in findings.records]
    ax = figures.pareto(replace(findings, records=free), "area").axes[0]
    assert ax.get_xscale() == "linear"


def test_the_page_is_the_same_for_the_same_search() -> None:
    assert render(made_up()) == render(made_up())


def test_winners_stand_with_their_test_errors() -> None:
    findings = with_finals(made_up())
    winner = findings.winner(0.0)
    text = text_of(render(findings))
    assert winner.half_width is not None
    assert f"{100 * winner.test_error:.2f} % ± {100 * winner.half_width:.2f}" in text
    assert "Test errors are those of 2 new trainings" in text


def test_a_final_run_that_failed_does_not_count() -> None:
    winner = with_finals(made_up()).winner(10.0)
    assert len(winner.finals) == 2
    assert winner.test_errors == [winner.record.error]
    assert winner.half_width is None


def test_without_final_runs_the_page_says_so() -> None:
    assert "The final stage has not run yet" in text_of(render(made_up()))


def test_names_are_escaped() -> None:
    findings = made_up()
    search = replace(findings.search, data="<script>x</script>.npz")
    assert "<script>" not in render(replace(findings, search=search))


def test_a_search_without_a_trained_candidate_has_no_report() -> None:
    findings = made_up()
    failed = [replace(r, state="failed", failure="broken") for r in findings.records]
    with pytest.raises(ValueError, match=r"^the search 'toy' has no candidate .* 12 that failed"):
        render(replace(findings, records=failed))


def test_a_higher_w_c_never_finds_a_larger_network() -> None:
    findings = made_up()
    sizes = [findings.winner(w_c).record.measures["parameters"] for w_c in (0, 0.1, 1, 10)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == max(record.measures["parameters"] for record in findings.able)


def test_importance_sees_what_decides_the_score() -> None:
    findings = made_up(40)
    strengths = importance(findings, 0.0)
    assert all(0 <= strength <= 1 for strength in strengths.values())
    decided = [
        replace(
            record, measures={**record.measures, "error": 1 / (1 + record.config["hidden_layers"])}
        )
        for record in findings.able
    ]
    assert next(iter(importance(replace(findings, records=decided), 0.0))) == "hidden_layers"


def test_importance_of_a_choice() -> None:
    findings = made_up(40)
    rule = {"relu": 0.1, "tanh": 0.9}
    decided = [
        replace(
            record,
            stage="activation",
            config={**record.config, "activation": name},
            measures={**record.measures, "error": rule[name]},
        )
        for record, name in zip(findings.able, cycle(rule), strict=False)
    ]
    strengths = importance(replace(findings, records=decided), 0.0)
    assert strengths["activation"] == pytest.approx(1)


def test_importance_leaves_presets_out() -> None:
    findings = made_up(40)
    # dropout and weight decay follow from the number of parameters, which decides the score
    space = replace(SPACE, dropout=0.2, dropout_from=100, decay_per_parameter=1e-6)
    records = [
        replace(record, config=space.complete(without_presets(record.config), SHAPE))
        for record in findings.records
    ]
    preset = replace(findings, space=space, records=records)
    assert len({record.config["weight_decay"] for record in records}) > 1
    assert len({record.config["dropout"] for record in records}) == 2
    assert set(importance(preset, 0.0)) == set(importance(findings, 0.0))
    trained = [replace(record, stage="training") for record in preset.records]
    dropped = [replace(record, stage="dropout") for record in preset.records]
    assert set(importance(replace(preset, records=trained), 0.0)) == {"weight_decay"}
    assert set(importance(replace(preset, records=dropped), 0.0)) == {"dropout"}


@pytest.mark.parametrize("draw", [figures.progress, figures.importances, figures.curves])
def test_figures_of_a_search_that_has_just_begun(draw: object) -> None:
    assert callable(draw)
    draw(made_up(5))


def test_a_drawing_shows_each_layer_of_weights() -> None:
    model = nn.Sequential(SparseLinear(12, 8, 0.25), nn.ReLU(), nn.Linear(8, 3), nn.Conv2d(1, 2, 3))
    sparse, dense, conv = connections(model)
    assert (sparse.n_in, sparse.n_out, sparse.edges, sparse.density) == (12, 8, 24, 0.25)
    assert (dense.edges, dense.kind) == (24, "dense")
    assert (conv.n_in, conv.n_out, conv.edges, conv.kind) == (1, 2, 18, "conv 3x3")
    texts = [text.get_text() for text in network(model).axes[0].texts]
    assert "sparse\n24 weights\ndensity 0.25" in texts


def test_the_largest_network_is_drawn() -> None:
    network(SPACE.build(SPACE.largest(SHAPE), SHAPE, 0), "largest")

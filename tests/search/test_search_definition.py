"""Definitions: valid once built, the same after JSON, and told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from search.toy import SEARCH

from dnc_search.definition import Search, digest_of


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"w_c": (-0.1,)},
            r"^w_c must be 0 or more and finite, got -0\.1; 0 counts the error alone$",
        ),
        ({"w_c": (float("nan"),)}, r"^w_c must be 0 or more and finite, got nan"),
        ({"w_c": ()}, r"^w_c must be one number or several that differ, got \(\)$"),
        ({"w_c": (1, 1)}, r"^w_c must be one number or several that differ"),
        ({"name": "a/b"}, r"^a search needs a name without '/', got 'a/b'$"),
        ({"penalty": {}}, r"^the shares of the penalty must add up to 1, got none"),
        ({"penalty": {"edges": 0.5}}, r"add up to 1, got edges 0\.5, which add up to 0\.5$"),
        ({"validation_fraction": 1.0}, r"^the validation fraction must lie between 0 and 1, got 1"),
        ({"initial": 1}, r"^initial must be 2 or more, got 1$"),
        ({"steps": -1}, r"^steps must be 0 or more, got -1$"),
        ({"final_epochs": 0}, r"^final_epochs must be 1 or more, got 0$"),
        ({"sampler": "grid"}, r"^unknown sampler 'grid'; choose one of ramp, tpe, gp, random$"),
        ({"pruner": "asha"}, r"^the asha pruner compares one figure .* there are 2 w_c; give one"),
        ({"filter": "zen"}, r"^unknown filter 'zen'; choose one of none, naswot, synflow, param"),
        ({"filter": "naswot"}, r"^the naswot filter foretells .* but w_c is 0, 1; give a w_c of 0"),
    ],
)
def test_bad_values_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SEARCH, **change)


def test_a_definition_survives_json() -> None:
    assert Search.from_record(SEARCH.record()).record() == SEARCH.record()
    assert not Search.from_record(SEARCH.record()).differences(SEARCH)


def test_a_definition_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"does not know: colour; use the version"):
        Search.from_record({**SEARCH.record(), "colour": "red"})


def test_differences_are_listed_with_both_values() -> None:
    changed = replace(SEARCH, seed=3, steps=9)
    assert changed.differences(SEARCH) == ["seed was 0, now 3", "steps was 4, now 9"]
    longer = replace(SEARCH, settings={**SEARCH.settings, "epochs": 7}, penalty={"edges": 1.0})
    assert longer.differences(SEARCH) == [
        f"settings.epochs was {SEARCH.settings.get('epochs')!r}, now 7",
        "penalty.parameters was 1.0, now None",
        "penalty.edges was None, now 1.0",
    ]


def test_a_file_may_move_but_not_change(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    file.write_bytes(b"one")
    before = replace(SEARCH, data=str(file), data_digest=digest_of(str(file)))
    moved = replace(before, data="/elsewhere/mine.npz")
    assert not moved.differences(before)
    file.write_bytes(b"two")
    changed = replace(before, data_digest=digest_of(str(file)))
    assert len(changed.differences(before)) == 1
    assert digest_of("mnist") is None
